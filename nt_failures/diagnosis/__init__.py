"""Diagnosis: whether a model failed, and why. One claim, one file."""
