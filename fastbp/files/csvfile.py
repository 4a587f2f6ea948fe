"""A .csv or .tsv of numbers, categories and one target: by polars, or with the standard library.

The reader here decides what a file means and says what is wrong with it, and where. polars, where it is
installed, reads large files that leave no doubt, to the same values, and leaves the rest to this one.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ..data.frames import MISSING, Frame
from ..errors import unknown
from . import cells
from .textfile import Dialect, Source, TextTable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from ..types import Array
    from .textfile import Line

    Columns: TypeAlias = tuple[list[Array], list[str], list[Array]]  # features, the target's cells, ids

LARGE = 1 << 20  # bytes of a file from which importing polars (0.2 s) pays
_CHUNK = 20_000  # rows held as text before they become numbers; among them a column shows what it is


@dataclass(frozen=True)
class Wanted:
    """What is asked of a table.

    target: a column's name or index, None for the last, False for none. drop: names of columns to leave out;
    only: of the features to read, () for all; ids: of columns that go along as they are; text: of those that
    are text, and of a target that is labels, whatever they hold. drop_missing: leave rows out that have no
    target. of_a_model: it is asked for a model, which sees itself what is wrong with its columns; ids that
    the table has not are passed over.
    """

    target: Any = None
    drop: Sequence[str] = ()
    only: Sequence[str] = ()
    ids: Sequence[str] = ()
    text: Collection[str] = ()
    drop_missing: bool = False
    of_a_model: bool = False

    def ids_of(self, names: Collection[str]) -> list[str]:
        """The ids to read of a table with columns of these names."""
        return [name for name in self.ids if name in names or not self.of_a_model]


@dataclass
class Found:
    """What a file of text holds, as Table has it; kept: the rows that are left, or None for all; commas:
    whether it writes decimal commas."""

    columns: list[Array]
    names: list[str]
    header: bool
    y: Array | None
    target: str | None
    ids: Frame | None
    kept: Array | None
    commas: bool
    source: str


def read_csv(source: Source, wanted: Wanted, dialect: Dialect) -> Found:
    """The table in a file of text; raises ValueError that says where and what."""
    table = TextTable(source, dialect)
    lines = table.lines()
    start = list(islice(lines, _CHUNK + 1))
    plan = _plan(table, start, wanted)
    found = _by_polars(plan, table) if source.size >= LARGE else None
    columns, target, ids = found or _by_hand(plan, table, chain(start, lines))
    columns = [_as_written(plan, table, c, column) for c, column in zip(plan.wanted, columns, strict=True)]
    y, kept = (None, None) if plan.target is None else _target(plan, target, table)
    if kept is not None:
        columns, ids = [column[kept] for column in columns], [column[kept] for column in ids]
    note = _note(plan, columns, kept, len(target))
    header = "with" if plan.header else "no"
    name = source.path.name if not source.standard else str(source)
    goal = "" if plan.target is None else f", {plan.label(plan.target)} is the target"
    return Found(
        columns,
        [plan.names[c] for c in plan.wanted],
        plan.header,
        y,
        plan.names[plan.target] if plan.header and plan.target is not None else None,
        Frame([plan.names[c] for c in plan.ids], ids) if plan.ids else None,
        kept,
        plan.commas,
        f"{name}: {header} header line{goal}{note}",
    )


def line_of(source: Source, dialect: Dialect, row: int) -> int:
    """The line of the file in which a row of data ends; rows count from 0 below the header."""
    table = TextTable(source, dialect)
    header, _ = _header(table, list(islice(table.lines(), _CHUNK + 1)))
    return _Lines(table, header)[row]


@dataclass
class Plan:
    """names: of all columns, a header's or made; target: its place, or None; wanted, ids: places of the
    features and of what goes along; known: those that are text whatever they hold; text: those that are;
    labels: whether the target is that whatever it holds; checked: whether text is looked at for slips, which
    a model that exists sees itself; commas: whether points part thousands; absent: cells that mean missing.
    """

    source: Source
    header: bool
    names: list[str]
    target: int | None
    wanted: list[int]
    ids: list[int]
    known: set[int]
    labels: bool
    checked: bool
    commas: bool
    absent: tuple[str, ...]
    drop_missing: bool

    def __post_init__(self) -> None:
        self.text = set(self.known)

    def label(self, c: int) -> str:
        return f"column {self.names[c]!r}" if self.names[c] != f"column {c}" else f"column {c}"

    def where(self, c: int) -> str:
        return f"{self.source}: {self.label(c)}"

    def cut(self, line: int, row: list[str]) -> list[str]:
        """A line's cells; empty ones at the end that the first line does not have are none."""
        width = len(self.names)
        if len(row) > width and not any(map(str.strip, row[width:])):
            return row[:width]
        if len(row) != width:
            raise ValueError(
                f"{self.source}: line {line} has {len(row)} columns, the first line has {width}"
                + _comment(row)
            )
        return row


def _plan(table: TextTable, start: list[Line], wanted: Wanted) -> Plan:
    source, target = table.source, wanted.target
    header, names = _header(table, start)
    if len(names) < 2 and target is not False:
        raise ValueError(
            f"{source}: one column only (no comma, semicolon, tab or | in the first line); takes "
            f"features and a target (--delimiter says what parts them{_comment(start[0][1])})"
        )
    if header and len(start) < 2:
        raise ValueError(f"{source}: a header and no line of data below it")
    t = None if target is False else _target_column(source, target, header, names)
    ids = [_place(source, name, names, "--id") for name in wanted.ids_of(names)]
    if t in ids and not wanted.of_a_model:
        raise ValueError(f"{source}: --id: got {names[t]!r}, the target; takes columns that tell rows apart")
    features, absent = _features(source, header, names, t, ids, wanted), table.dialect.missing
    for name in () if wanted.of_a_model else wanted.text:
        _place(source, name, names, "--text")
    known = {c for c in features if names[c] in wanted.text}
    checked = target is not False and not wanted.of_a_model
    labels = t is not None and names[t] in wanted.text
    commas = table.dialect.decimal == ","
    plan = Plan(
        source, header, names, t, features, ids, known, labels, checked, commas, absent, wanted.drop_missing
    )
    rows = [plan.cut(line, row) for line, row in start[header:][:_CHUNK]]
    if table.dialect.decimal is None:
        columns = list(zip(*rows, strict=True))
        read = [*features, *([] if t is None else [t])]
        plan.commas = cells.has_commas([columns[c] for c in read if c not in known], absent)
    return plan


def _comment(row: list[str]) -> str:
    """A hint where a line looks like one."""
    return "; --comment '#' passes over lines that begin so" if row[0].startswith("#") else ""


# --- the header


def _header(table: TextTable, start: list[Line]) -> tuple[bool, list[str]]:
    """(whether the first line has names, a name for each column, made where there is none)."""
    if not start:
        raise ValueError(f"{table.source}: is empty; takes at least one line of data")
    first = [cell.strip() for cell in start[0][1]]
    named = len(first)
    while named > 1 and not first[named - 1]:  # a comma at the line's end names nothing
        named -= 1
    below = [row for _, row in start[1:]]
    header = table.dialect.header
    if header is None:
        header = _is_header(first[:named], below)
    if header and not any(cell.strip() for row in below for cell in row[named:]):
        first = first[:named]
    unnamed = "Unnamed: {}" if header else "column {}"  # pandas' way, which is known for row numbers
    return header, [name if header and name else unnamed.format(i) for i, name in enumerate(first)]


def _is_header(first: list[str], below: list[list[str]]) -> bool:
    """Text above numbers, text all along, or the plain count 0, 1, 2, 3, ... that pandas writes.

    Text whose every cell comes again in its own column is data."""
    count = first if first[0] else first[1:]
    if len(count) > 3 and count == [str(i) for i in range(len(count))]:
        return True
    text = [cells.number(cell) is None and not cells.is_missing(cell) for cell in first]
    if all(text):
        again = (  # most often the first one does not, and no other column is looked at
            any(len(row) > i and row[i].strip() == cell for row in below) for i, cell in enumerate(first)
        )
        return not all(again)
    second = below[0] if below else []
    return any(t and cells.number(cell) is not None for t, cell in zip(text, second, strict=False))


def _place(source: Source, name: str, names: list[str], what: str = "column") -> int:
    """Where the column of this name is. Raises ValueError where there is none, or more than one."""
    if name not in names:
        raise unknown(f"{source}: {what}", name, names)
    if names.count(name) > 1:
        raise ValueError(f"{source}: {names.count(name)} columns named {name!r}; takes names that differ")
    return names.index(name)


def _features(
    source: Source, header: bool, names: list[str], t: int | None, ids: list[int], wanted: Wanted
) -> list[int]:
    """The columns to read as features, in order."""
    known = names if header else [str(i) for i in range(len(names))]
    drop = {_place(source, name, known, "--drop") for name in wanted.drop}
    if wanted.only and header:
        for name in wanted.only:
            if name not in names:
                raise ValueError(
                    f"{source}: has no column {name!r}; takes the columns of the training: "
                    f"{', '.join(wanted.only)}"
                )
        return [_place(source, name, names) for name in wanted.only]
    chosen = [c for c in range(len(names)) if c != t and c not in drop and c not in ids]
    if not chosen:
        raise ValueError(f"{source}: no column left besides the target; takes one feature or more")
    twice = [name for name, n in Counter(names).items() if n > 1 and names.index(name) in [*chosen, t]]
    if twice:
        places = ", ".join(str(i) for i, name in enumerate(names) if name == twice[0])
        raise ValueError(
            f"{source}: columns {places} are all named {twice[0]!r}; takes names that differ (--no-header "
            "where the first line is data)"
        )
    return chosen


def _target_column(source: Source, target: Any, header: bool, names: list[str]) -> int:
    if target is None:
        return len(names) - 1
    if header and target in names:
        return _place(source, target, names, "target")
    index = column_index(target)
    if index is not None:
        return in_range(source, index, len(names))
    if header:
        raise unknown(f"target of {source}", target, names)
    raise ValueError(
        f"{source}: target: got {target!r}; the file has no header line: takes a column's index, "
        f"0 to {len(names) - 1}"
    )


# --- the cells


def _by_hand(plan: Plan, table: TextTable, lines: Iterator[Line]) -> Columns:
    """The columns, in pieces of rows; from the start again where one turns out to be text."""
    parts: dict[int, list[Array]] = {c: [] for c in plan.wanted}
    ids: dict[int, list[Array]] = {c: [] for c in plan.ids}
    target: list[str] = []
    if plan.header:
        next(lines)
    while piece := list(islice(lines, _CHUNK)):
        places, rows = zip(*((line, plan.cut(line, row)) for line, row in piece), strict=True)
        columns = list(zip(*rows, strict=True))
        for c, found in parts.items():
            made = None
            if c not in plan.text:
                made = cells.numbers(plan.where(c), columns[c], places, plan.absent, plan.commas)
            if made is None:
                again = bool(found) and c not in plan.text
                plan.text.add(c)
                if again:
                    return _by_hand(plan, table, table.lines())
                made = cells.texts(columns[c], plan.absent)
            found.append(made)
        for c, found in ids.items():
            found.append(np.array(columns[c]))
        if plan.target is not None:
            target.extend(columns[plan.target])
    return [np.concatenate(p) for p in parts.values()], target, [np.concatenate(p) for p in ids.values()]


def _as_written(plan: Plan, table: TextTable, c: int, column: Array) -> Array:
    """A column of text in a form that needs no more of the file to be understood. Raises ValueError where it
    looks like a slip."""
    if column.dtype.kind != "U":
        return column
    column = cells.read_as_told(column, plan.commas, table.dialect.dates)
    if plan.checked and c not in plan.known:
        cells.check_text(plan.where(c), column, _Lines(table, plan.header))
    return column


def _by_polars(plan: Plan, table: TextTable) -> Columns | None:
    """What ``_by_hand`` gives, or None: without polars, and where it may read otherwise or cannot."""
    try:
        import polars
    except ImportError:
        return None
    if not table.is_plain:
        return None
    try:
        with table.source.open() as stream:
            data = stream.read()
        found = polars.read_csv(data, separator=table.delimiter, has_header=False, infer_schema=False)
    except (KeyboardInterrupt, MemoryError):
        raise
    except BaseException:  # damaged, ragged; its panics are no Exception: the other reader says it
        return None
    columns = found.slice(1 if plan.header else 0).get_columns()
    # A short or blank line ends in what looks like a missing cell; \r alone is no line's end there.
    alone = data.count(b"\r") != data.count(b"\r\n")
    if len(columns) != len(plan.names) or columns[-1].null_count() or alone:
        return None
    try:
        features = [_series(columns[c], plan, c) for c in plan.wanted]
    except ValueError:
        return None
    ids = [np.array(columns[c].fill_null("").to_list()) for c in plan.ids]
    return features, [] if plan.target is None else columns[plan.target].fill_null("").to_list(), ids


def _series(column: Any, plan: Plan, c: int) -> Array:
    """A polars column of text as numbers or text. Raises ValueError where one is infinite."""
    import polars

    cell = column.fill_null("").str.strip_chars()
    if c not in plan.text:
        numbers = cell.cast(polars.Float64, strict=False)
        odd = ~numbers.is_finite().fill_null(False)
        words = [text for text in cell.filter(odd).unique() if not cells.is_missing(text, plan.absent)]
        if any(cells.number(text) is not None for text in words):
            raise ValueError
        special = cell.str.contains(f"^{cells.CODE}$").any() or (
            plan.commas and cell.str.contains(".", literal=True).any()
        )
        if not words and not special:
            return numbers.set(odd, None).to_numpy().astype(np.float64)  # null is NaN
    return cells.texts(cell.to_list(), plan.absent)


def _target(plan: Plan, target: list[str], table: TextTable) -> tuple[Array, Array | None]:
    """(y, the rows that have one, or None where all do)."""
    c: Any = plan.target
    lost = cells.lost(target, plan.absent)
    kept = np.flatnonzero(~lost) if lost.any() else None
    if kept is not None and not plan.drop_missing:
        row = int(lost.argmax())
        raise ValueError(
            f"{plan.where(c)} (the target), line {_Lines(table, plan.header)[row]}: missing value "
            f"({target[row]!r}), in {int(lost.sum()):,} of {len(lost):,} rows; takes one in every row "
            "(--drop-missing leaves such rows out; --na '' takes any text for a class)"
        )
    if kept is not None and not len(kept):
        raise ValueError(f"{plan.where(c)} (the target): is missing in every row")
    there = [cell for cell, no in zip(target, lost, strict=True) if not no]
    if plan.labels:
        return cells.read_as_told(cells.texts(there, ()), plan.commas, None), kept
    return cells.target(plan.where(c), there, _Lines(table, plan.header, kept), plan.commas), kept


class _Lines:
    """The file's line of each row: read off the file when an error asks for one."""

    def __init__(self, table: TextTable, header: bool, kept: Array | None = None) -> None:
        self.table, self.header, self.kept = table, header, kept

    def __getitem__(self, row: int) -> int:
        row = row if self.kept is None else int(self.kept[row])
        return next(islice(self.table.lines(), row + self.header, None))[0]


# --- what is said of it


def _note(plan: Plan, columns: list[Array], kept: Array | None, rows: int) -> str:
    text = sum(column.dtype.kind == "U" for column in columns)
    note = f", {text} of text" if text else ""
    note += ", decimal commas" if plan.commas else ""
    gaps = sum(int(np.count_nonzero(missing(column))) for column in columns)
    note += f", {gaps:,} value{'s'[: gaps > 1]} missing" if gaps else ""
    lost = 0 if kept is None else rows - len(kept)
    return note + (f", {lost:,} row{'s'[: lost > 1]} without a target left out" if lost else "")


def missing(column: Array) -> Array:
    """(N,) bool: where a column has no value."""
    if column.dtype.kind == "U":
        return column == MISSING
    return np.isnat(column) if column.dtype.kind in "mM" else np.isnan(column)


def column_index(target: Any) -> int | Any:
    try:
        return int(target)
    except (TypeError, ValueError):
        return None


def in_range(path: object, index: int, columns: int) -> int:
    if not -columns <= index < columns:
        raise ValueError(
            f"{path}: target: got column {index}; takes {-columns} to {columns - 1} ({columns} columns)"
        )
    return index % columns
