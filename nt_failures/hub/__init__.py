"""A run on disk and on the Hub: its files, their integrity, loading, the model card, pushing."""
