"""Tables as text, Markdown and HTML; labels and values; objects as the call that makes them."""

import html
import inspect
from collections.abc import Collection, Iterable, Sequence
from typing import Any


def text_table(rows: Sequence[Sequence[str]], left: int | Collection[int] = 1, rule: bool = False) -> str:
    """Rows of strings as aligned text.

    left : how many columns are set left, the first ones; or their numbers. rule : a line under the first row.
    """
    columns = [*zip(*rows, strict=True)]
    widths = [max(map(len, column)) for column in columns]
    lefts = range(left) if isinstance(left, int) else left
    set_in = [str.ljust if k in lefts else str.rjust for k in range(len(columns))]
    lines = [
        "  ".join(put(cell, width) for put, cell, width in zip(set_in, row, widths, strict=True)).rstrip()
        for row in rows
    ]
    if rule:
        lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def markdown_table(rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Rows of strings in Markdown, the first one its head; ``left`` columns are set left."""
    rule = [":--" if k < left else "--:" for k in range(len(rows[0]))]
    return "\n".join("| " + " | ".join(row) + " |" for row in [rows[0], rule, *rows[1:]])


def print_rows(rows: Iterable[tuple[str, object]]) -> None:
    """Labels and values, one pair a line: what every command prints."""
    for label, value in rows:
        print(f"{label:<15} {value}")


def html_table(rows: Sequence[Sequence[object]], left: int = 1, caption: str = "") -> str:
    """Rows as an HTML table, the first one its head, the first cell of a row its label; ``left`` columns are
    set left."""

    def line(cells, tags):
        made = (
            f'<{tag}{scope} style="text-align: {"left" if k < left else "right"}">{html.escape(str(cell))}'
            f"</{tag.split()[0]}>"
            for k, (cell, (tag, scope)) in enumerate(zip(cells, tags, strict=True))
        )
        return f"<tr>{''.join(made)}</tr>"

    head, *body = rows
    row = [("th", ' scope="row"'), *[("td", "")] * (len(head) - 1)]
    lines = [line(head, [("th", ' scope="col"')] * len(head)), *(line(cells, row) for cells in body)]
    lines[0] = f"<thead>{lines[0]}</thead>"
    above = f"<caption>{html.escape(caption)}</caption>" if caption else ""
    return f"<table>{above}{lines[0]}<tbody>" + "\n".join(lines[1:]) + "</tbody></table>"


def call(thing: object, *always: str) -> str:
    """An object as the call that makes it: arguments that are not the defaults, and those ``always`` named.

    An argument is what the object keeps under its name; one that it does not keep is passed over.
    """
    kept, said = vars(thing), []
    for name, parameter in inspect.signature(type(thing)).parameters.items():
        value = kept.get(name, parameter.default)
        if name in always or not _same(value, parameter.default):
            said.append(f"{name}={_short(value)}")
    return f"{type(thing).__name__}({', '.join(said)})"


class Called:
    """What shows itself as the call that makes it, a dataclass too. SHOWN : arguments always named."""

    SHOWN: tuple[str, ...] = ()

    def __init_subclass__(cls) -> None:
        if "__repr__" not in vars(cls):  # where a dataclass would put its own, of every field
            cls.__repr__ = Called.__repr__  # type: ignore[method-assign]

    def __repr__(self) -> str:
        return call(self, *self.SHOWN)


def _same(value: Any, default: Any) -> bool:
    return value is default or (type(value) is type(default) and bool(value == default))


def _short(value: Any) -> str:
    """repr, the middle of what is long left out."""
    if isinstance(value, (tuple, list)) and len(value) > 8:
        kind = type(value)
        inner = ", ".join([*(f"{v!r}" for v in value[:3]), "...", *(f"{v!r}" for v in value[-1:])])
        return f"({inner})" if kind is tuple else f"[{inner}]"
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:80]} ... {text[-30:]}"
