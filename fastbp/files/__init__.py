"""Tables: reading.py takes a file to the reader of its kind; data/frames.py reads what is in memory."""

from .reading import Dialect, Table, Wanted, features, read

__all__ = ["Dialect", "Table", "Wanted", "features", "read"]
