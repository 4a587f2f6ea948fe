"""What fits of one search share: preparations fitted once a fold, and networks that go on in later rounds.

A search is in force in the threads that ``in_force`` covers. Everything is found by what it was made from, so
that a fit gives what it gives without a search, to the bit.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import joblib

_search: ContextVar[Search | None] = ContextVar("search", default=None)


@dataclass
class Search:
    """One search. planned : epochs of the last of its rounds, or None where it has no rounds."""

    planned: int | None = None
    known: dict[str, Any] = field(default_factory=dict)
    # networks by what they were made from: of the round before, of this one
    before: dict[str, Any] = field(default_factory=dict)
    stopped: dict[str, Any] = field(default_factory=dict)

    def next_round(self) -> None:
        """What has not gone on by now is out."""
        self.before, self.stopped = self.stopped, {}


@contextmanager
def in_force(search: Search) -> Iterator[Search]:
    """The fits inside are of ``search``."""
    token = _search.set(search)
    try:
        yield search
    finally:
        _search.reset(token)


def present() -> Search | None:
    """The search that is in force here."""
    return _search.get()


def rounds() -> Search | None:
    """The search that is in force here, if it has rounds."""
    search = present()
    return None if search is None or search.planned is None else search


def once(function: Callable[..., Any], *arguments: Any) -> Any:
    """function(*arguments), called once a search for the same arguments. Nobody may change the result."""
    search = present()
    key = None if search is None else digest(function.__qualname__, arguments)
    if search is None or key is None:
        return function(*arguments)
    if key not in search.known:
        search.known[key] = function(*arguments)
    return search.known[key]


class Memory:
    """What a Pipeline takes as ``memory``: the steps before its last are fitted once a search for the same
    data and parameters. As with joblib.Memory, everyone gets a copy."""

    def cache(self, function: Callable[..., Any], ignore: Any = ()) -> Callable[..., Any]:
        def found(*arguments: Any, **options: Any) -> Any:
            search = present()
            known = {name: value for name, value in options.items() if name not in ignore}
            key = None if search is None else digest(function.__qualname__, arguments, known)
            if search is None or key is None:
                return function(*arguments, **options)
            if key not in search.known:
                made = function(*arguments, **options)
                search.known[key] = copy.deepcopy(made)
                return made
            return copy.deepcopy(search.known[key])

        return found

    def __deepcopy__(self, memo: Any) -> Memory:  # a clone's too
        return self


def digest(*things: Any) -> str | None:
    """Letters that are others for other things; None for what cannot be told apart, such as a lambda."""
    try:
        return joblib.hash(things)
    except (pickle.PicklingError, TypeError, AttributeError):
        return None
