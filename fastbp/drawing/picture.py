"""A picture: drawn once, shown by a notebook, written to a file, and told in words and numbers."""

from __future__ import annotations

import html
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..writing import written

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..types import FilePath

# A color on white, and what it becomes where the reader's pages are dark. Each has a contrast of 4.5 or more
# with the ground, if it is one of text, and of 3 if it is one of lines and areas.
GROUND, INK, GRID, EDGE = "#ffffff", "#333333", "#e4e4e4", "#999999"
TRAIN, VALIDATION, SHADE = "#3f6f9f", "#b9501f", "#4878a9"
DARK = {
    GROUND: "#16181c", INK: "#dadada", GRID: "#33363b", EDGE: "#8a8a8a",
    TRAIN: "#7fb0e0", VALIDATION: "#f08a55", SHADE: "#3a6ea5",
}  # fmt: skip
_STYLE = (
    "svg.fastbp *{stroke-linejoin:round;stroke-linecap:butt}@media (prefers-color-scheme:dark){"
    + "".join(
        f'svg.fastbp [style*="{part}: {light}"]{{{part}:{dark}!important}}'
        for light, dark in DARK.items()
        for part in ("fill", "stroke")
    )
    + "}"
)


class Picture:
    """What every plot returns: a notebook shows it, as SVG; given a path, the plot has written it there.

    title, words : str, what it is and what it shows, for who cannot see it; they are in its SVG too. rows :
    the numbers that are drawn, a table of strings, the first row its head. path : Path of the file that was
    written last, or None.

    >>> picture = pictures.confusion_matrix([0, 1, 1], [0, 1, 0], ["cat", "dog"])
    >>> picture.words, picture.rows[1]
    ('2 of 3 are right.', ['cat', '1', '0'])
    >>> picture.save("confusion.pdf").name
    'confusion.pdf'
    """

    path: Path | None = None

    def __init__(self, figure: Any, title: str, words: str, rows: Sequence[Sequence[str]]) -> None:
        self._figure = figure
        self.title, self.words, self.rows = title, words, rows

    def save(self, path: FilePath) -> Path:
        """Write it; the suffix says the format (.png, .svg, .pdf). Raises ValueError for one that is none."""
        path = Path(path)
        if path.suffix == ".svg":
            with written(path, "w", encoding="utf-8") as file:
                file.write(self.svg())
        else:
            with written(path) as file:
                self._figure.savefig(file, format=path.suffix[1:] or "png", facecolor=GROUND)
        self.path = path
        return path

    def svg(self) -> str:
        """It as one <svg> element: light or dark as the reader's pages are, its text as text."""
        from matplotlib import rc_context

        drawn = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        with rc_context({"svg.fonttype": "none", "svg.hashsalt": "fastbp"}):
            self._figure.savefig(drawn, format="svg", facecolor=GROUND, metadata=nothing)
        text = drawn.getvalue()
        size = " ".join(re.findall(r'\b(?:width|height|viewBox)="[^"]+"', text.split("<svg ", 1)[1])[:3])
        text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", text, flags=re.S)
        text = re.sub(r'<g id="[^"]*"', "<g", text[text.index(">", text.index("<svg ")) + 1 :])
        title, words = html.escape(self.title), html.escape(self.words)
        return (
            '<svg class="fastbp" role="img" xmlns="http://www.w3.org/2000/svg" '
            f'xmlns:xlink="http://www.w3.org/1999/xlink" {size} aria-label="{title}. {words}">'
            f"<title>{title}</title><desc>{words}</desc><style>{_STYLE}</style>{text.strip()}\n"
        )

    def _repr_svg_(self) -> str:
        return self.svg()

    def __repr__(self) -> str:
        where = f", in {self.path}" if self.path else ""
        return f"Picture({self.title}{where}: {self.words})"


def finished(
    figure: Any, path: FilePath | None, title: str, words: str, rows: Sequence[Sequence[str]]
) -> Picture:
    """The Picture of a figure that is drawn; written where there is a path."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # found once, or each format would have its own
    picture = Picture(figure, title, words, rows)
    if path is not None:
        picture.save(path)
    return picture
