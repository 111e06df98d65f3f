"""The lines of examples/benchmarks/run.py, one file per kind of work."""
