"""Reading a .csv or .tsv of numbers and one target with the standard library, line by line."""

import csv
import math
import re
from itertools import chain, islice

import numpy as np

from .errors import unknown

_MISSING = {"", "na", "n/a", "n.a.", "#n/a", "nan", "null", "none", "?"}
_CHUNK = 20_000  # rows held as text before they become numbers


def read_csv(path, stream, target=None):
    """The table in a text stream that can seek: (X, y, feature_names, target_name, source).

    X: float64 (N, n_features); y: int64, float64 or text (N,); names: None without a header line.
    target: a column's name or index, default the last; path: the file's name for messages.
    """
    delimiter = _sniff("".join(islice(stream, 50)))
    stream.seek(0)
    return _parse(path, csv.reader(stream, delimiter=delimiter, strict=True), target)


def _sniff(head):
    """Tab, semicolon or comma: the first of them that cuts every line alike, into more than one.

    In this order, because a decimal comma may well stand in every line of a file cut by semicolons.
    """
    for delimiter in "\t;,":
        rows = csv.reader(head.splitlines(keepends=True), delimiter=delimiter)
        widths = {len(row) for row in rows if row}
        if len(widths) == 1 and widths.pop() > 1:
            return delimiter
    return max(",;\t", key=head.split("\n", 1)[0].count)


def _parse(path, reader, target):
    rows = ((reader.line_num, row) for row in reader if row)  # a blank line is no row
    start = list(islice(rows, 2))
    if not start:
        raise ValueError(f"{path}: is empty; takes at least one line of data")
    first = [cell.strip() for cell in start[0][1]]
    width = len(first)
    if width < 2:
        raise ValueError(
            f"{path}: one column only (no comma, semicolon or tab in the first line); takes "
            "features and a target"
        )
    header = first if _is_header(first, start[1][1] if len(start) > 1 else None) else None
    t = _target_column(path, target, header, width)
    labels = [f"column {name!r}" if name else f"column {i}" for i, name in enumerate(header or [])]
    labels = labels or [f"column {i}" for i in range(width)]

    texts_y, lines_y = [], []
    parts = [[] for _ in range(width)]  # each column's numbers, an array per chunk
    rows = chain(start[1:] if header else start, rows)
    while chunk := list(islice(rows, _CHUNK)):
        for line, row in chunk:
            if len(row) != width:
                raise ValueError(f"{path}: line {line} has {len(row)} columns, the first line has {width}")
        lines, cells = zip(*chunk, strict=True)
        for c, texts in enumerate(zip(*cells, strict=True)):
            if c == t:
                texts_y.extend(texts)
                lines_y.extend(lines)
            else:
                parts[c].append(_numbers(f"{path}: {labels[c]}", texts, lines))
    if not texts_y:
        raise ValueError(f"{path}: a header and no line of data below it")

    y = _target_values(f"{path}: {labels[t]} (the target)", texts_y, lines_y)
    columns = [np.concatenate(part) for c, part in enumerate(parts) if c != t]
    names = [name for c, name in enumerate(header) if c != t] if header else None
    note = ""
    if names and not names[0] and len(columns) > 1:  # pandas' to_csv wrote its row numbers
        if np.array_equal(columns[0], np.arange(len(y))):
            del columns[0], names[0]
            note = ", unnamed row numbers left out"
    source = f"{path.name}: {'with' if header else 'no'} header line, {labels[t]} is the target{note}"
    return np.stack(columns, axis=1), y, names, header[t] if header else None, source


def _is_header(first, second):
    """Text above numbers, text all along, or the plain count 0, 1, 2, 3, ... that pandas writes."""
    text = [_number(cell) is None and not _is_missing(cell) for cell in first]
    count = first if first[0] else first[1:]
    if all(text) or (len(count) > 3 and count == [str(i) for i in range(len(count))]):
        return True
    below = second or []
    return any(t and _number(cell) is not None for t, cell in zip(text, below, strict=False))


def _target_column(path, target, header, width):
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


def _number(text):
    """The text as a float, or None. Python takes 1_000 for a number; in data it is a name."""
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


def _is_missing(text):
    return text.strip().casefold() in _MISSING


def _numbers(where, texts, lines):
    """The cells as float64; names the line and the value of the first that is not a number."""
    try:
        numbers = np.array(list(map(float, texts)))
        if np.isfinite(numbers).all() and "_" not in "".join(texts):
            return numbers
    except ValueError:
        pass
    for line, text in zip(lines, texts, strict=True):
        _must_be_there(where, text, line)
        number = _number(text)
        if number is None:
            comma = "; write decimals with a point" if re.fullmatch(r"\s*[+-]?\d+,\d+\s*", text) else ""
            raise ValueError(
                f"{where}, line {line}: {_short(text)} is not a number; takes numeric features "
                f"only: encode or drop the column{comma}"
            )
        if not math.isfinite(number):
            raise ValueError(f"{where}, line {line}: {_short(text)}; takes finite numbers")
    raise AssertionError("unreachable: some cell was bad")


def _target_values(where, texts, lines):
    """The target: int64 if every cell is written as an integer, else float64, else text labels."""
    for line, text in zip(lines, texts, strict=True):
        _must_be_there(where, text, line)
    numbers = [_number(text) for text in texts]
    if None not in numbers:
        y = _numbers(where, texts, lines)
        whole = all(text.strip().lstrip("+-").isdigit() for text in texts)
        return y.astype(np.int64) if whole and np.abs(y).max() < 2**53 else y
    # Labels may look like whole numbers (1, 2, 3a); a fraction among text is a slip of the pen.
    if any(number is not None and number != round(number) for number in numbers):
        bad = numbers.index(None)
        raise ValueError(
            f"{where}, line {lines[bad]}: {_short(texts[bad])} among numbers; takes numbers or "
            "labels throughout"
        )
    return np.array([text.strip() for text in texts])


def _must_be_there(where, text, line):
    if _is_missing(text):
        raise ValueError(
            f"{where}, line {line}: missing value ({_short(text)}); fill or drop such lines first"
        )


def _short(text):
    return repr(text if len(text) <= 40 else text[:37] + "...")


def column_index(target):
    try:
        return int(target)
    except (TypeError, ValueError):
        return None


def in_range(path, index, columns):
    if not -columns <= index < columns:
        raise ValueError(
            f"{path}: target: got column {index}; takes {-columns} to {columns - 1} ({columns} columns)"
        )
    return index % columns
