"""The options that say how a table is read, of every command that reads one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..files import Dialect

if TYPE_CHECKING:
    from argparse import Namespace


def dialect(args: Namespace) -> Dialect:
    """What the command line says of how its file of text is written."""
    return Dialect(
        args.delimiter,
        args.encoding,
        args.comment,
        False if args.no_header else None,
        args.na,
    )
