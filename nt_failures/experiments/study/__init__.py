"""A study: many runs, each once, and the tables and figures made of them."""
