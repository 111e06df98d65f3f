"""Metrics in the form of the `evaluate` library: one folder, one metric."""
