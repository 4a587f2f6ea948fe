"""Files of text as lines of cells: encoding, delimiter, comments, the header; by the standard library."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from . import cells

_MARKS = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32", codecs.BOM_UTF8: "utf-8",
          codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}  # fmt: skip
_NAMES = {"tab": "\t", r"\t": "\t", "space": " ", "comma": ",", "semicolon": ";", "pipe": "|"}
_SNIFFED = 50  # lines

Line = tuple[int, list[str]]  # its number in the file, its cells


@dataclass(frozen=True)
class Dialect:
    """How a table of text is written. None: as the file shows.

    delimiter: one character, or its name; encoding: a codec's name; comment: what begins a line to be passed
    over; header: whether the first line has names; absent: cells that mean a missing value, beside empty
    ones; decimal: "." or ","; dates: "dmy" or "mdy", of those that may be either.
    """

    delimiter: str | None = None
    encoding: str | None = None
    comment: str | None = None
    header: bool | None = None
    absent: tuple[str, ...] | None = None
    decimal: str | None = None
    dates: str | None = None

    @property
    def missing(self) -> tuple[str, ...]:
        return cells.ABSENT if self.absent is None else tuple(cell.casefold() for cell in self.absent)


class Source:
    """The bytes of a file, of a .gz, or of standard input ("-"), to be read more than once. str: its name."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.standard = str(path) == "-"

    def __str__(self) -> str:
        return "standard input" if self.standard else str(self.path)

    @cached_property
    def _piped(self) -> bytes:
        return sys.stdin.buffer.read()

    @property
    def size(self) -> int:
        return len(self._piped) if self.standard else self.path.stat().st_size

    def open(self) -> BinaryIO:
        if self.standard:
            return io.BytesIO(self._piped)
        if self.path.name.lower().endswith(".gz"):
            return gzip.open(self.path, "rb")  # type: ignore[return-value]  # reads as one
        return open(self.path, "rb")


class TextTable:
    """A file of text, cut into cells: ``lines()`` from the start, as often as asked for."""

    def __init__(self, source: Source, dialect: Dialect) -> None:
        self.source, self.dialect = source, dialect
        self.encoding = self._encoding()
        self.delimiter = self._delimiter()

    def _encoding(self) -> str:
        with self.source.open() as stream:
            head = stream.read(4096)
        given = name = self.dialect.encoding
        if name is None:
            name = next((name for mark, name in _MARKS.items() if head.startswith(mark)), "utf-8")
        try:
            name = codecs.lookup(name).name
            io.TextIOWrapper(io.BytesIO(), encoding=name)  # zlib is a codec, too
        except LookupError:
            raise ValueError(
                f"--encoding: got {given!r}; takes a text encoding's name such as utf-8, cp1252, utf-16"
            ) from None
        if name == "utf-8" and b"\0" in head:
            raise ValueError(f"{self.source}: holds bytes of 0: no text, or in UTF-16 (--encoding utf-16)")
        return name

    def _delimiter(self) -> str:
        given = self.dialect.delimiter
        if given is None:
            return _sniff("".join(islice(self._text(), _SNIFFED)))
        given = _NAMES.get(given.lower(), given)
        if len(given) != 1 or given in '"\r\n':
            raise ValueError(f"--delimiter: got {given!r}; takes one character, or tab or space")
        return given

    def _text(self) -> Iterator[str]:
        """The lines as they stand; a blank one in place of a comment, so that they can be counted."""
        comment = self.dialect.comment
        with (
            self.source.open() as stream,
            io.TextIOWrapper(stream, encoding=self.encoding, newline="") as text,
        ):
            first = True
            try:
                for line in text:
                    line, first = line.removeprefix("\ufeff") if first else line, False
                    yield "\n" if comment and line.startswith(comment) else line
            except UnicodeError as error:
                raise ValueError(f"{self.source}: {self._undecodable(error)}") from error

    def _undecodable(self, error: UnicodeError) -> str:
        """Where the first bytes are that are no text: the decoder counts from some buffer's start."""
        hint = (
            "--encoding cp1252 if Windows wrote it" if self.encoding == "utf-8" else "--encoding says which"
        )
        with self.source.open() as stream:
            for number, line in enumerate(stream, 1):
                try:
                    line.decode(self.encoding)
                except UnicodeDecodeError as here:
                    if not self.encoding.startswith(("utf-16", "utf-32")):  # whose lines no byte ends
                        bad = line[here.start : here.start + 1].hex()
                        return f"line {number} is not {self.encoding.upper()} text (byte {bad}); {hint}"
        return f"not {self.encoding.upper()} text ({getattr(error, 'reason', error)}); {hint}"

    def lines(self) -> Iterator[Line]:
        """(line number, cells) of each line that is not blank, from the start."""
        reader = csv.reader(
            self._text(), delimiter=self.delimiter, strict=True, skipinitialspace=self.delimiter == " "
        )
        try:
            for row in reader:
                if len(row) > 1 or (row and row[0].strip()):
                    yield reader.line_num, row
        except csv.Error as error:
            raise ValueError(
                f"{self.source}: line {reader.line_num}: not readable as csv: {error}"
            ) from error

    @property
    def is_plain(self) -> bool:
        """Whether a reader of UTF-8 without comments reads it to the same cells."""
        return self.encoding == "utf-8" and not self.dialect.comment and self.delimiter != " "


def _sniff(head: str) -> str:
    """Tab, semicolon, comma or |: the first of them that cuts every line alike, into more than one.

    In this order, because a decimal comma may well stand in every line of a file cut by semicolons.
    """
    for delimiter in "\t;,|":
        rows = csv.reader(head.splitlines(keepends=True), delimiter=delimiter)
        widths = {len(row) for row in rows if row}
        if len(widths) == 1 and widths.pop() > 1:
            return delimiter
    return max(",;\t|", key=head.split("\n", 1)[0].count)
