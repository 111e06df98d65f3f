"""One run from the command line, and studies of many runs."""
