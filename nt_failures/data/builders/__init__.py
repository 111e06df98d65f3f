"""A builder for each task beside path-star graphs, one a module: `datasets` looks builders up by module."""
