"""Tables as text: aligned for a terminal, Markdown for a page; labels and values."""

from collections.abc import Collection, Iterable, Sequence


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
