"""docs/maths.md has every name that the code computes, in a table of its section, with what it is."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from fastbp import initializers, losses, metrics, optimizers, schedules
from fastbp.diagnosis import LayerReport
from fastbp.engine import options
from fastbp.kernels import codes
from fastbp.network import activations

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "maths.md").read_text()
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S))


def rows(section):
    """[(words of the first cell, the other cells' text), ...] of all tables of a section."""
    found = []
    for line in re.findall(r"^\| .*\|$", SECTIONS[section], re.M):
        first, *rest = (cell.strip() for cell in line.strip("|").split(" | "))
        found.append((set(re.findall(r"\w+", first)), " ".join(rest)))
    assert len(found) > 4
    return found


def classes(table):
    return [kind.__name__ for kind in table.values()]


@pytest.mark.parametrize(
    ("section", "names"),
    [
        ("Activations", activations.NAMES),
        ("Losses", codes.LOSSES),
        ("Losses", losses.LOSSES),
        ("Optimizers", classes(optimizers.OPTIMIZERS)),
        ("Optimizers", [f.name for f in fields(options.Options)]),
        ("Optimizers", classes(schedules.SCHEDULES)),
        ("Initialisation", initializers.INITIALIZERS),
        ("Metrics", metrics.METRICS),
        ("Diagnosis", [f.name for f in fields(LayerReport) if f.type == "float" or f.type is float]),
        ("Norm, dropout, skip, embedding", [*codes.NORMS, "dropout", "embedding"]),
    ],
)
def test_every_name_has_its_formula(section, names):
    table = rows(section)
    assert len(set(names)) > 2
    absent = [name for name in names if "#" not in name and not any(name in words for words, _ in table)]
    assert not absent, f"docs/maths.md, {section}: no row for {absent}"
    assert all(text.strip(" |") for words, text in table), f"docs/maths.md, {section}: a row says nothing"
