"""The user's arrays, checked and left where they are: what the program can read without a copy."""

from .ahead import read_ahead
from .sources import Shards, shards

__all__ = ["Shards", "read_ahead", "shards"]
