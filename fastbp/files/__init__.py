"""Tables: reading.py takes a file to the reader of its kind; frames.py reads what is in memory."""

from .reading import Table, features, read

__all__ = ["Table", "features", "read"]
