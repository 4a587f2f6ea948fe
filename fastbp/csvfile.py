"""Reading a .csv or .tsv of numbers, categories and one target with the standard library, line by line."""

import csv
import math
import re
from itertools import chain, islice

import numpy as np

from .errors import unknown
from .frames import Frame

_MISSING = {"", "na", "n/a", "n.a.", "#n/a", "nan", "null", "none", "?"}
_CHUNK = 20_000  # rows held as text before they become numbers
_DECIMAL_COMMA = re.compile(r"\s*[+-]?\d+,\d+\s*")


def read_csv(path, stream, target=None, drop=(), only=()):
    """The table in a text stream that can seek: (X, y, feature_names, target_name, source).

    X: float64 (N, n_features), or a Frame where a column is text (its first cell is no number); y:
    int64, float64 or text (N,); names: None without a header line.
    target: a column's name or index, default the last, False for none. drop: names of columns to leave
    out; only: names of the feature columns to read, () for all. path: the file's name for messages.
    """
    delimiter = _sniff("".join(islice(stream, 50)))
    stream.seek(0)
    return _parse(path, csv.reader(stream, delimiter=delimiter, strict=True), target, drop, only)


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


def _parse(path, reader, target, drop, only):
    rows = ((reader.line_num, row) for row in reader if row)  # a blank line is no row
    start = list(islice(rows, 2))
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
    t = None if target is False else _target_column(path, target, header, width)
    wanted = _wanted(path, header, width, t, drop, only)
    labels = [f"column {name!r}" if name else f"column {i}" for i, name in enumerate(header or [])]
    labels = labels or [f"column {i}" for i in range(width)]

    texts_y, lines_y = [], []
    parts = {c: [] for c in wanted}  # each column's numbers or texts, an array per chunk
    rows = chain(start[1:] if header else start, rows)
    text = None
    while chunk := list(islice(rows, _CHUNK)):
        for line, row in chunk:
            if len(row) != width:
                raise ValueError(f"{path}: line {line} has {len(row)} columns, the first line has {width}")
        lines, cells = zip(*chunk, strict=True)
        text = text or {c for c in wanted if _is_text(cells[0][c])}
        for c, texts in enumerate(zip(*cells, strict=True)):
            if c == t:
                texts_y.extend(texts)
                lines_y.extend(lines)
            elif c in parts:
                parts[c].append((_texts if c in text else _numbers)(f"{path}: {labels[c]}", texts, lines))
    if text is None:
        raise ValueError(f"{path}: a header and no line of data below it")

    y = None if t is None else _target_values(f"{path}: {labels[t]} (the target)", texts_y, lines_y)
    columns = [np.concatenate(parts[c]) for c in wanted]
    names = [header[c] for c in wanted] if header else None
    note = f", {len(text)} of text" if text else ""
    # pandas' to_csv writes its row numbers
    if names and not names[0] and len(columns) > 1 and np.array_equal(columns[0], np.arange(len(columns[0]))):
        del columns[0], names[0]
        note += ", unnamed row numbers left out"
    source = f"{path.name}: {'with' if header else 'no'} header line"
    source += ("" if t is None else f", {labels[t]} is the target") + note
    table = Frame(names or [f"column {c}" for c in wanted], columns) if text else np.stack(columns, axis=1)
    return table, y, names, header[t] if header and t is not None else None, source


def _wanted(path, header, width, t, drop, only):
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


def _is_text(cell):
    """Whether a column that begins so holds categories; a decimal comma is a slip, said elsewhere."""
    return _number(cell) is None and not _is_missing(cell) and not _DECIMAL_COMMA.fullmatch(cell)


def _texts(where, texts, lines):
    """The cells as text without surrounding blanks; none may be missing."""
    for line, text in zip(lines, texts, strict=True):
        _must_be_there(where, text, line)
    return np.array([text.strip() for text in texts])


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
            comma = "; write decimals with a point" if _DECIMAL_COMMA.fullmatch(text) else ""
            raise ValueError(
                f"{where}, line {line}: {_short(text)} is not a number, as the column's first is; takes "
                f"numbers throughout or text throughout{comma}"
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
