"""What the examples share: their arguments, their data's absence said in one line, the comparison's table.

An example's docstring asks its question in the first line, then says ``Data:``, ``Licence:``, ``Get:`` and
``Shows:``, a line each.
"""

import argparse
import importlib
import json
import sys
import time
import warnings
from importlib import metadata
from pathlib import Path
from typing import NoReturn

import numpy as np

import fastbp as fb
from fastbp.printing import text_table

try:
    from sklearn.exceptions import ConvergenceWarning
except ImportError:
    sys.exit("the examples compare fastbp with scikit-learn, which is not here: pip install scikit-learn")

warnings.simplefilter("ignore", ConvergenceWarning)  # both train for as many epochs as the example says
warnings.filterwarnings("ignore", message="self.within_class_std_dev_")  # of pixels that never change


def arguments(argv=None):
    parser = argparse.ArgumentParser(usage="%(prog)s [--quick] [--rounds N] [--json]")
    parser.add_argument("--quick", action="store_true", help="fewer rows and epochs: what the tests run")
    parser.add_argument("--rounds", type=int, default=1, help="train with so many seeds; default 1")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    if options.rounds < 1:
        parser.error(f"--rounds: got {options.rounds}, takes 1 or more")
    return options


def facts(doc):
    """A docstring's first line as "title", and what follows its marks: {"Data": ..., "Get": ...}."""
    lines = doc.strip().splitlines()
    marked = (line.partition(": ") for line in lines[1:])
    return {"title": lines[0]} | {key: text for key, mark, text in marked if mark and key.istitle()}


def _absent(doc) -> NoReturn:
    sys.exit(f"{facts(doc)['title']} Its data is not here: {facts(doc)['Get']}")


def module(name, doc):
    """The module that carries the data; ends with one line on how to get it where it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError:
        _absent(doc)


def file(path, doc, package=None):
    """The path of a data file, in an installed package if one is named, which need not be importable."""
    try:
        path = Path(path if package is None else str(metadata.distribution(package).locate_file(path)))
    except metadata.PackageNotFoundError:
        _absent(doc)
    return path if path.exists() else _absent(doc)


def compare(doc, score, models, *, lower=False):
    """Run each function of a seed, which trains and returns its score; print and return the table.

    models : {name: function}, the first one fastbp's, the second scikit-learn's, then simple ones.
    score : what they return; lower : whether less is better. Each runs once a round, with seed 0, 1, ...,
    in turn. Returns {"title", "score", "lower", "rows": [{"name", "scores" (rounds,), "seconds"}]}, where
    seconds is the fastest round's, training and scoring together. What compiling the program takes, once a
    machine, or loading it from the disk, once a process, comes before.
    """
    options = arguments()
    trainer = fb.Trainer(fb.MLP([2, 2, 2], seed=0), seed=0)
    trainer.fit(np.eye(2, dtype="float32"), [0, 1], verbose=0)
    rows = [{"name": name, "scores": [], "seconds": float("inf")} for name in models]
    for seed in range(options.rounds):
        for row, run in zip(rows, models.values(), strict=True):
            start = time.perf_counter()
            row["scores"].append(float(run(seed)))
            row["seconds"] = min(row["seconds"], time.perf_counter() - start)
    result = {"title": facts(doc)["title"], "score": score, "lower": lower, "rows": rows}
    print(json.dumps(result) if options.json else text(result))
    return result


def said(row):
    """Mean score, and its standard deviation over the seeds where they differ."""
    spread = np.std(row["scores"])
    return figure(np.mean(row["scores"])) + (f" ± {figure(spread)}" if spread else "")


def text(result):
    """A comparison as lines for the terminal."""
    better = "less" if result["lower"] else "more"
    rows = [(f"  {row['name']}", said(row), duration(row["seconds"])) for row in result["rows"]]
    head = f"{result['title']}\n{result['score']} ({better} is better), time to train and score"
    return f"{head}\n{text_table(rows, left=(0, 2))}"


def figure(value):
    """A score to three digits."""
    return f"{value:.3f}" if abs(value) < 1 else f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def duration(seconds):
    return f"{seconds * 1000:.0f} ms" if seconds < 0.9995 else f"{seconds:.1f} s"


quick = "--quick" in sys.argv
