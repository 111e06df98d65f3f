"""The lines of examples/benchmark.py, one file per kind of work."""
