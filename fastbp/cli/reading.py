"""How a table is read: what the command line says of it, what a model remembers, where a row of it is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..files import Dialect, Table, Wanted

if TYPE_CHECKING:
    from argparse import Namespace

    from ..training.trainer import Trainer

_MARKS = {"decimal": (".", ","), "dates": ("dmy", "mdy")}  # of a Dialect, what a model remembers


def dialect(args: Namespace, known: dict[str, Any] | None = None) -> Dialect:
    """What the command line says of how its file of text is written; what it does not, its model may know."""
    header = False if args.no_header else None
    said = Dialect(args.delimiter, args.encoding, args.comment, header, args.na, args.decimal, args.dates)
    rest = {name: value for name, value in (known or {}).items() if getattr(said, name, ...) is None}
    return replace(said, **rest)


def remembered(args: Namespace, table: Table) -> dict[str, Any]:
    """What a model keeps of how its training was read: JSON."""
    place = args.target if table.feature_names is None and _is_place(args.target) else None
    said = {
        "absent": args.na,
        "decimal": args.decimal or table.decimal,
        "dates": args.dates,
        "target": place,  # the target's, of a table without names
    }
    return {k: v for k, v in said.items() if v is not None} | ({"ids": list(args.id)} if args.id else {})


def of_a_model(args: Namespace, trainer: Trainer) -> tuple[Wanted, Dialect]:
    """What a model wants of a table, and how it is written. Raises ValueError where it remembers nonsense."""
    preparation = trainer.preparation
    if preparation is None:
        return Wanted(only=trainer.columns or (), of_a_model=True), dialect(args)
    if preparation.names:
        text = list(preparation.needed_text)
    else:
        text = [
            f"column {i}" for i in preparation.kept if i in {**preparation.categories, **preparation.written}
        ]
    if preparation.target and (preparation.target_written or _texts(preparation.classes)):
        text.append(preparation.target)
    known = dict(preparation.reading)
    ids, absent, place = known.pop("ids", []), known.pop("absent", None), known.pop("target", None)
    good = (
        _texts(ids)
        and (place is None or _is_place(place))
        and (absent is None or _texts(absent))
        and known.keys() <= _MARKS.keys()
    )
    if not good or any(value not in _MARKS[name] for name, value in known.items()):
        raise ValueError(f"{args.model}: does not say how its tables are read: {preparation.reading}")
    known |= {} if absent is None else {"absent": tuple(absent)}
    return Wanted(only=preparation.needed or (), ids=ids, text=text, of_a_model=True), dialect(args, known)


def target_of(args: Namespace, trainer: Trainer) -> str | None:
    """The target of a table with which a model is scored: as in training, unless the command line says."""
    preparation = trainer.preparation
    if args.target is not None or preparation is None:
        return args.target
    return preparation.target if preparation.names else preparation.reading.get("target")


def _is_place(text: Any) -> bool:
    return isinstance(text, str) and text.removeprefix("-").isdecimal()


def _texts(values: Any) -> bool:
    return isinstance(values, (list, tuple)) and all(isinstance(value, str) for value in values)


@contextmanager
def placed(name: object, table: Table) -> Iterator[None]:
    """Errors that name a row of X or y name the file and its line."""
    try:
        yield
    except ValueError as error:
        text = re.sub(r"\bin row (\d+)", lambda found: f"in {table.place(int(found[1]))}", str(error))
        raise ValueError(re.sub(r"^[Xy]: ", f"{name}: ", text)) from error
