"""The command ``fastbp``: command.py parses and reports errors; what a command does is in the other files."""

from .command import main

__all__ = ["main"]
