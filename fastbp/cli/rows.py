"""Labels and values, one pair a line: what every command prints."""

from __future__ import annotations

from collections.abc import Iterable


def print_rows(rows: Iterable[tuple[str, object]]) -> None:
    for label, value in rows:
        print(f"{label:<15} {value}")
