"""The fault drills stand beside drill.py, which pytest finds by this folder."""
