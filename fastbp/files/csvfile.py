"""Reading a .csv or .tsv of numbers, categories and one target: by polars, or with the standard library.

The reader here decides what a file means and says what is wrong with it, and where. polars, where it is
installed, reads large files that leave no doubt, to the same values, and leaves the rest to this one.
"""

from __future__ import annotations

import csv
import math
import re
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ..data.frames import MISSING, Frame
from ..errors import unknown

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from pathlib import Path

    from ..types import Array

    Columns: TypeAlias = tuple[list[Array], Array | None]  # the features, the target

_MISSING = {"", "na", "n/a", "n.a.", "#n/a", "nan", "null", "none", "?"}
LARGE = 1 << 20  # bytes of a file from which importing polars (0.2 s) pays
_CHUNK = 20_000  # rows held as text before they become numbers; among them a column shows what it is
_DECIMAL_COMMA = re.compile(r"\s*[+-]?\d+,\d+\s*")


def read_csv(
    path: Path,
    stream: Any,
    target: Any = None,
    drop: Sequence[str] = (),
    only: Sequence[str] = (),
    text: Collection[str] = (),
) -> tuple[Any, Any, list[str] | None, str | None, str]:
    """The table in a text stream that can seek: (X, y, feature_names, target_name, source).

    X: float64 (N, n_features), NaN where a value is missing, or a Frame where a column is text (its first
    cell that is there is no number; "" where one is missing); y: int64, float64 or text (N,), none
    missing; names: None without a header line.
    target: a column's name or index, default the last, False for none. drop: names of columns to leave
    out; only: names of the feature columns to read, () for all; text: of those that are text, whatever
    they hold. path: the file's name for messages.
    """
    delimiter = _sniff("".join(islice(stream, 50)))
    plan = _plan(path, list(islice(_rows(stream, delimiter), 2)), target, drop, only, text)
    found = _by_polars(plan, stream, delimiter) if path.stat().st_size >= LARGE else None
    return _table(path, plan, found or _by_hand(path, plan, _rows(stream, delimiter)))


def _rows(stream: Any, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """(line number, cells) of each line that is not blank, from the start."""
    stream.seek(0)
    reader = csv.reader(stream, delimiter=delimiter, strict=True)
    return ((reader.line_num, row) for row in reader if row)


@dataclass
class Plan:
    """header: the names of all columns, or None; width: their number; target: its place, or None; wanted:
    the features' places; text: of those, the places known to be text; labels: for messages.
    """

    header: list[str] | None
    width: int
    target: int | None
    wanted: list[int]
    text: set[int]
    labels: list[str]


def _plan(
    path: Path,
    start: list[tuple[int, list[str]]],
    target: Any,
    drop: Sequence[str],
    only: Sequence[str],
    text: Collection[str],
) -> Plan:
    if not start:
        raise ValueError(f"{path}: is empty; takes at least one line of data")
    first = [cell.strip() for cell in start[0][1]]
    width = len(first)
    if width < 2 and target is not False:
        raise ValueError(
            f"{path}: one column only (no comma, semicolon or tab in the first line); takes "
            "features and a target"
        )
    header = first if _is_header(first, start[1][1] if len(start) > 1 else None) else None
    if header and len(start) < 2:
        raise ValueError(f"{path}: a header and no line of data below it")
    t = None if target is False else _target_column(path, target, header, width)
    wanted = _wanted(path, header, width, t, drop, only)
    known = header or [str(i) for i in range(width)]
    labels = [
        f"{path}: column {name!r}" if header and name else f"{path}: column {i}"
        for i, name in enumerate(known)
    ]
    named = {c for c in wanted if (header[c] if header else f"column {c}") in text}
    return Plan(header, width, t, wanted, named, labels)


def _by_hand(path: Path, plan: Plan, rows: Iterator[tuple[int, list[str]]]) -> Columns:
    """(the wanted columns, the target or None), in pieces of rows; says where what is wrong."""
    # each column's numbers or texts, an array per piece
    parts: dict[int, list[Array]] = {c: [] for c in plan.wanted}
    texts_y: list[str] = []
    lines_y: list[int] = []
    text = None
    if plan.header:
        next(rows)
    while piece := list(islice(rows, _CHUNK)):
        for line, row in piece:
            if len(row) != plan.width:
                raise ValueError(
                    f"{path}: line {line} has {len(row)} columns, the first line has {plan.width}"
                )
        lines, cells = zip(*piece, strict=True)
        columns = list(zip(*cells, strict=True))
        if text is None:
            text = plan.text | {c for c in plan.wanted if _is_text(columns[c])}
        for c, found in parts.items():
            found.append(_texts(columns[c]) if c in text else _numbers(plan.labels[c], columns[c], lines))
        if plan.target is not None:
            texts_y.extend(columns[plan.target])
            lines_y.extend(lines)
    y = None if plan.target is None else _target_values(plan.labels[plan.target], texts_y, lines_y)
    return [np.concatenate(parts[c]) for c in plan.wanted], y


def _by_polars(plan: Plan, stream: Any, delimiter: str) -> Columns | None:
    """What ``_by_hand`` gives, or None: without polars, and where it may read otherwise or cannot."""
    try:
        import polars
    except ImportError:
        return None
    stream.buffer.seek(0)
    try:
        data = stream.buffer.read()
        if not data.endswith(b"\n"):  # else an empty cell too many at the end goes by unseen
            data += b"\n"
        table = polars.read_csv(data, separator=delimiter, has_header=False, infer_schema=False)
    except Exception:  # damaged, ragged, another encoding: the reader that says it comes to it again
        return None
    columns = table.slice(1 if plan.header else 0).get_columns()
    # A short or blank line ends in what looks like a missing cell; \r alone is no line's end there.
    if len(columns) != plan.width or columns[-1].null_count() or data.count(b"\r") != data.count(b"\r\n"):
        return None
    try:
        found = [_series(columns[c], c in plan.text) for c in plan.wanted]
        if plan.target is None:
            return found, None
        texts = columns[plan.target].to_list()
        return found, _target_values("", ["" if v is None else v for v in texts], range(len(texts)))
    except ValueError:
        return None


def _series(column: Any, text: bool) -> Array:
    """A polars column of text as numbers or text. Raises ValueError where a cell is neither."""
    import polars

    cells = column.fill_null("").str.strip_chars()
    if text or _is_text(islice(cells, _CHUNK)):
        return _texts(cells.to_list())
    numbers = cells.cast(polars.Float64, strict=False)
    odd = ~numbers.is_finite().fill_null(False)
    if not all(map(_is_missing, cells.filter(odd).unique())):
        raise ValueError
    return numbers.set(odd, None).to_numpy().astype(np.float64)  # null is NaN


def _table(path: Path, plan: Plan, found: Columns) -> tuple[Any, Any, list[str] | None, str | None, str]:
    """What ``read_csv`` returns, of columns and target."""
    columns, y = found
    header = plan.header
    names = [header[c] for c in plan.wanted] if header else None
    text = sum(column.dtype.kind == "U" for column in columns)
    note = f", {text} of text" if text else ""
    # pandas' to_csv writes its row numbers
    if names and not names[0] and len(columns) > 1 and np.array_equal(columns[0], np.arange(len(columns[0]))):
        del columns[0], names[0]
        note += ", unnamed row numbers left out"
    gaps = sum(int(np.count_nonzero(c == "" if c.dtype.kind == "U" else np.isnan(c))) for c in columns)
    note += f", {gaps:,} value{'s'[: gaps > 1]} missing" if gaps else ""
    source = f"{path.name}: {'with' if header else 'no'} header line"
    t = plan.target
    source += ("" if t is None else f", {plan.labels[t].removeprefix(f'{path}: ')} is the target") + note
    names_or = names or [f"column {c}" for c in plan.wanted]
    table = Frame(names_or, columns) if text else np.stack(columns, axis=1)
    return table, y, names, header[t] if header and t is not None else None, source


def _sniff(head: str) -> str:
    """Tab, semicolon or comma: the first of them that cuts every line alike, into more than one.

    In this order, because a decimal comma may well stand in every line of a file cut by semicolons.
    """
    for delimiter in "\t;,":
        rows = csv.reader(head.splitlines(keepends=True), delimiter=delimiter)
        widths = {len(row) for row in rows if row}
        if len(widths) == 1 and widths.pop() > 1:
            return delimiter
    return max(",;\t", key=head.split("\n", 1)[0].count)


def _wanted(
    path: Path, header: list[str] | None, width: int, t: int | None, drop: Sequence[str], only: Sequence[str]
) -> list[int]:
    """The columns to read, in order."""
    known = header or [str(i) for i in range(width)]
    for name in drop:
        if name not in known:
            raise unknown(f"{path}: drop", name, known)
    if not only or header is None:
        wanted = [c for c in range(width) if c != t and known[c] not in drop]
        if not wanted:
            raise ValueError(f"{path}: no column left besides the target; takes one feature or more")
        return wanted
    for name in only:
        if name not in header:
            raise ValueError(
                f"{path}: has no column {name!r}; takes the columns of the training: {', '.join(only)}"
            )
    return [header.index(name) for name in only]


def _is_text(cells: Iterable[str]) -> bool:
    """Whether a column holds categories, by its first cell that is there; a decimal comma is a slip."""
    cell = next((cell for cell in cells if not _is_missing(cell)), "0")
    return _number(cell) is None and not _DECIMAL_COMMA.fullmatch(cell)


def _texts(cells: Iterable[str]) -> Array:
    """The cells as text without surrounding blanks, MISSING for those that are."""
    return np.array([MISSING if _is_missing(cell) else cell.strip() for cell in cells])


def _is_header(first: list[str], second: list[str] | None) -> bool:
    """Text above numbers, text all along, or the plain count 0, 1, 2, 3, ... that pandas writes."""
    text = [_number(cell) is None and not _is_missing(cell) for cell in first]
    count = first if first[0] else first[1:]
    if all(text) or (len(count) > 3 and count == [str(i) for i in range(len(count))]):
        return True
    below = second or []
    return any(t and _number(cell) is not None for t, cell in zip(text, below, strict=False))


def _target_column(path: Path, target: Any, header: list[str] | None, width: int) -> int:
    if target is None:
        return width - 1
    if header and target in header:
        if header.count(target) > 1:
            raise ValueError(f"{path}: target: {target!r} names {header.count(target)} columns")
        return header.index(target)
    index = column_index(target)
    if index is not None:
        return in_range(path, index, width)
    if header:
        raise unknown(f"target of {path}", target, header)
    raise ValueError(
        f"{path}: target: got {target!r}; the file has no header line: takes a column's index, "
        f"0 to {width - 1}"
    )


def _number(text: str) -> float | None:
    """The text as a float, or None. Python takes 1_000 for a number; in data it is a name."""
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


def _is_missing(text: str) -> bool:
    return text.strip().casefold() in _MISSING


def _numbers(where: str, texts: Sequence[str], lines: Sequence[int]) -> Array:
    """The cells as float64, NaN where missing; names the line and value of the first that is no number."""
    try:
        numbers = np.array(list(map(float, texts)))
        if np.isfinite(numbers).all() and "_" not in "".join(texts):
            return numbers
    except ValueError:
        pass
    numbers = np.full(len(texts), np.nan)
    for i, (line, text) in enumerate(zip(lines, texts, strict=True)):
        if _is_missing(text):
            continue
        number = _number(text)
        if number is None:
            comma = "; write decimals with a point" if _DECIMAL_COMMA.fullmatch(text) else ""
            raise ValueError(
                f"{where}, line {line}: {_short(text)} is not a number, as the column's first is; takes "
                f"numbers throughout or text throughout{comma}"
            )
        if not math.isfinite(number):
            raise ValueError(f"{where}, line {line}: {_short(text)}; takes finite numbers")
        numbers[i] = number
    return numbers


def _target_values(where: str, texts: Sequence[str], lines: Sequence[int]) -> Array:
    """The target: int64 if every cell is written as an integer, else float64, else text labels."""
    where = f"{where} (the target)"
    for line, text in zip(lines, texts, strict=True):
        if _is_missing(text):
            raise ValueError(
                f"{where}, line {line}: missing value ({_short(text)}); takes one in every line: fill or "
                "drop such lines first"
            )
    numbers = [_number(text) for text in texts]
    if None not in numbers:
        y = _numbers(where, texts, lines)
        whole = all(text.strip().lstrip("+-").isdigit() for text in texts)
        return y.astype(np.int64) if whole and np.abs(y).max() < 2**53 else y
    # Labels may look like whole numbers (1, 2, 3a); a fraction among text is a slip of the pen.
    if any(number is not None and not number.is_integer() for number in numbers):
        bad = numbers.index(None)
        raise ValueError(
            f"{where}, line {lines[bad]}: {_short(texts[bad])} among numbers; takes numbers or "
            "labels throughout"
        )
    return np.array([text.strip() for text in texts])


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")


def column_index(target: Any) -> int | Any:
    try:
        return int(target)
    except (TypeError, ValueError):
        return None


def in_range(path: Path, index: int, columns: int) -> int:
    if not -columns <= index < columns:
        raise ValueError(
            f"{path}: target: got column {index}; takes {-columns} to {columns - 1} ({columns} columns)"
        )
    return index % columns
