"""The report of `fastbp train`: a whole page, true to the test samples, told in words and numbers too."""

import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

import fastbp as fb
from fastbp import cli, datasets
from fastbp.prepare import stratified_split

pytest.importorskip("matplotlib")
FIXED = "1000000000"  # 2001-09-09, as SOURCE_DATE_EPOCH


class Page(HTMLParser):
    """The tags, addresses, tables and text of a page; unbalanced tags fail."""

    def __init__(self, text):
        super().__init__()
        self.open, self.sources, self.text, self.tags, self.title = [], [], "", [], ""
        self.tables = []  # lists of rows of cells
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        if tag != "meta":
            self.open.append(tag)
        self.tags.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href", "xlink:href")]
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href", "xlink:href")]

    def handle_data(self, data):
        self.text += data
        if self.open[-2:] == ["head", "title"]:
            self.title += data
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data

    def table(self, head):
        """The first table whose head begins so, as rows."""
        return next(table for table in self.tables if table[0][: len(head)] == head)[1:]


@pytest.fixture
def report(tmp_path, monkeypatch):
    """report(data, options...) -> Page; the file is report.text."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", FIXED)

    def make(data, *options):
        argv = ["train", data, "--hidden", "16", "--quiet", "--overwrite"]
        argv += ["--report", "deep/run.html", *options]
        assert cli.main(argv) == 0
        make.source = (tmp_path / "deep" / "run.html").read_text(encoding="utf-8")
        return Page(make.source)

    return make


@pytest.fixture
def rng():
    return np.random.default_rng()


CURVES, CLASSES, INSIDE = "Learning curves", "Test, class by class", "Weights and gradients"
EXPECTED = {
    "plane.csv": [CURVES, CLASSES, "Confusion matrix", "Calibration", "Decision boundary", INSIDE],
    "line.csv": [CURVES, "Predicted against true", INSIDE],
    "flags.npz": [CURVES, CLASSES, "Calibration", INSIDE],
    "digits": [CURVES, CLASSES, "Confusion matrix", "Calibration", INSIDE, "Filters of the first layer"],
}


@pytest.mark.parametrize("data", EXPECTED)
def test_a_whole_page(data, report, tmp_path, rng):
    x = rng.standard_normal((300, 2))
    table = np.column_stack([x, x[:, 0] + x[:, 1] > 0]).astype(object)
    rows = [f"{a:.4f},{b:.4f},{'<yes>' if c else 'no & no'}" for a, b, c in table]
    (tmp_path / "plane.csv").write_text("a,<b>,answer\n" + "\n".join(rows) + "\n")
    (tmp_path / "line.csv").write_text("a,b,y\n" + "\n".join(f"{a},{b},{a - b + 0.5}" for a, b in x) + "\n")
    np.savez(tmp_path / "flags.npz", X=x, y=(x + rng.standard_normal((300, 2)) > 0).astype(int))
    page = report(data, "--epochs", "3")
    title = {"digits": "digits", "flags.npz": "flags.npz: y", "line.csv": "line.csv: y"}
    assert page.title == f"{title.get(data, 'plane.csv: answer')}, 2001-09-09"
    always = ["Configuration", "Machine", "numba", "cores", "test ", "2001-09-09 01:46 UTC"]
    for words in [*EXPECTED[data], *always]:
        assert words in page.text, words
    assert "<yes>" not in report.source
    # pictures: SVG, each with title and words, each figure with a table; nothing is fetched from anywhere
    bitmaps = "Filters" in page.text or "Decision boundary" in page.text
    outside = [source for source in page.sources if not source.startswith("#")]
    assert "img" not in page.tags and all(s.startswith("data:image/png;base64,") for s in outside)
    assert bool(outside) == bitmaps
    assert page.tags.count("svg") == page.tags.count("desc") >= page.tags.count("figure")
    figures = [heading for heading in EXPECTED[data] if heading != CLASSES]
    assert page.tags.count("figure") == page.tags.count("details") == len(figures)
    assert page.tags.count("title") == page.tags.count("svg") + 1
    assert all(len({len(row) for row in rows}) == 1 for rows in page.tables)
    assert "prefers-color-scheme: dark" in report.source and 'name="viewport"' in report.source


def test_scores_of_the_test_samples_are_scikit_learns(report):
    metrics = pytest.importorskip("sklearn.metrics")
    page = report("digits", "--epochs", "4")
    X, y = datasets.load("digits")
    _, test = stratified_split(y, 0.2, seed=0)
    said = fb.load("fastbp-digits.safetensors").predict(X[test]).argmax(axis=1)
    rows = page.table(["class", "precision", "recall"])
    each = np.array(metrics.precision_recall_fscore_support(y[test], said, zero_division=0)).T
    macro = metrics.precision_recall_fscore_support(y[test], said, average="macro", zero_division=0)[:3]
    weighted = metrics.precision_recall_fscore_support(y[test], said, average="weighted", zero_division=0)[:3]
    expected = [[str(k), *(f"{v:.3f}" for v in line[:3]), f"{line[3]:.0f}"] for k, line in enumerate(each)]
    expected += [
        [f"{name} mean", *(f"{v:.3f}" for v in values), f"{len(test)}"]
        for name, values in (("macro", macro), ("weighted", weighted))
    ]
    assert rows == expected
    confusion = np.array([row[1:] for row in page.table(["true, predicted"])], int)
    assert confusion.tolist() == metrics.confusion_matrix(y[test], said).tolist()


def test_nothing_is_chosen_by_the_test_samples(report, capsys):
    """Whatever chooses, early stopping or a schedule, looks at samples of its own, and the page says so."""
    held_out = "more for validation"
    page = report("digits", "--patience", "2", "--epochs", "60", "--lr", "0.02")
    kept = re.search(r"after each of (\d+) epochs: the model is that of epoch (\d+), whose", page.text)
    losses = [float(row[2]) for row in page.table(["epoch", "loss", "validation loss"])]
    assert int(kept[1]) == len(losses) and losses.index(min(losses)) + 1 == int(kept[2]) == len(losses) - 2
    assert held_out in capsys.readouterr().out
    last = "the model is that of the last step"
    plateau = ("--patience", "0", "--schedule", "plateau", "--epochs", "3")
    page = report("digits", *plateau, "--validation-fraction", "0.2")
    assert held_out in capsys.readouterr().out and last in page.text
    assert "Other samples, held out for validation" in page.text and "took no part in training" in page.text
    page = report("digits", *plateau)
    assert held_out not in capsys.readouterr().out and "No samples were held out for validation" in page.text
    assert page.table(["epoch"])[0][1:] and "validation loss" not in page.text and last in page.text
    page = report("digits", "--test-fraction", "0", "--epochs", "3")
    assert "No samples were held out to test on" in page.text and "Confusion matrix" not in page.text


def test_the_same_run_gives_the_same_page(report):
    def page():
        report("digits", "--epochs", "2", "--threads", "1")
        return report.source.split("<h2>This run</h2>")

    (first, time), (second, _) = page(), page()
    assert first == second and "01:46" in time and " s, 2 epochs" in time


def test_without_a_fixed_date_it_is_that_of_now(report, monkeypatch):
    from datetime import datetime

    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    days = {datetime.now().strftime("%Y-%m-%d")}
    title = report("digits", "--epochs", "1").title
    days.add(datetime.now().strftime("%Y-%m-%d"))
    assert title.removeprefix("digits, ") in days


def test_many_epochs_in_a_table_that_can_be_read(report):
    page = report("digits", "--epochs", "150", "--batch-size", "512")
    rows = page.table(["epoch", "loss"])
    assert "every 3 lines" in page.text and len(rows) == 50 and rows[-1][0] == "150"


def test_a_report_that_cannot_be_fails_before_training(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    assert cli.main(["train", "digits", "--report", "file/run.html"]) == 2
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert cli.main(["train", "digits", "--report", "run.html"]) == 2
    assert "pip install 'fastbp[plot]'" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
