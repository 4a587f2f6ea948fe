"""The user's arrays, checked and left where they are: what the program can read without a copy."""

from .ahead import read_ahead
from .frames import present
from .sources import Shards, shards
from .targets import target_kind

__all__ = ["Shards", "present", "read_ahead", "shards", "target_kind"]
