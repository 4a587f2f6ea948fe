"""Pictures and reports: learning curves of every kind of history, and without matplotlib a hint."""

import base64
import struct
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

import fastbp as fb
from fastbp import cli, pictures
from fastbp.drawing.plots import learning_curves

FULL = {
    "loss": [1.2, 0.5, 0.1, 0.02],
    "val_loss": [1.3, 0.6, 0.3, 0.35],
    "accuracy": [0.6, 0.8, 0.95, 0.99],
    "val_accuracy": [0.5, 0.7, 0.9, 0.89],
}


def png_size(path):
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", data[16:24])


def test_two_panels_with_accuracy_one_without(tmp_path):
    pytest.importorskip("matplotlib")
    both = learning_curves(FULL, tmp_path / "both.png", title="a title")
    loss = learning_curves({"loss": FULL["loss"]}, str(tmp_path / "loss.png"))
    (wide, high), (narrow, as_high) = png_size(both), png_size(loss)
    assert 1000 < wide < 2500 and 400 < high < 1200
    assert narrow < 0.6 * wide and as_high == high
    assert both.stat().st_size > 10_000


def test_a_panel_for_each_metric_three_a_row(tmp_path):
    pytest.importorskip("matplotlib")
    more = FULL | {
        "val_auc": [0.5, 0.7, 0.9, 0.8],
        "val_rmse": [3, 2, 1, 2],
        "lr": [1] * 4,
        "seconds": [1] * 4,
    }
    (wide, high), (two, one) = (
        png_size(learning_curves(h, tmp_path / "m.png")) for h in (more, FULL)
    )  # fmt: skip
    assert wide > 1.4 * two and abs(high - 2 * one) <= 2  # loss, accuracy, auc; rmse


@pytest.mark.parametrize(
    "history",
    [
        {"loss": [0.5], "val_loss": [0.6], "accuracy": [1.0], "val_accuracy": [1.0]},
        {"loss": [0.0, 0.0], "val_loss": []},
        {"loss": [1.0, float("nan"), 0.5], "val_loss": [None, 2.0, None], "accuracy": None},
        {"loss": [-1.0, -2.0, -3.0], "seconds": [1, 1, 1]},
    ],
    ids=["one epoch", "zero loss", "holes", "negative"],
)
def test_odd_histories_still_give_a_picture(tmp_path, history):
    pytest.importorskip("matplotlib")
    png_size(learning_curves(history, tmp_path / "odd.png"))


def test_the_suffix_says_the_format(tmp_path):
    pytest.importorskip("matplotlib")
    assert b"<svg" in learning_curves(FULL, tmp_path / "curves.svg").read_bytes()
    with pytest.raises(ValueError, match="xyz"):
        learning_curves(FULL, tmp_path / "curves.xyz")


@pytest.mark.parametrize("history", [{}, {"loss": []}, {"loss": [float("nan")]}])
def test_a_history_without_a_loss_is_refused(tmp_path, history):
    pytest.importorskip("matplotlib")
    with pytest.raises(ValueError, match="history: holds no 'loss'"):
        learning_curves(history, tmp_path / "none.png")
    assert not list(tmp_path.iterdir())


def test_a_fit_draws_its_own_curves(tmp_path, rng):
    X, y = rng.standard_normal((30, 3)), rng.integers(0, 2, 30)
    history = fb.Trainer(fb.MLP([3, 4, 2], seed=0)).fit(X, y, epochs=3, validation_split=0.2, metrics="f1")
    path = history.plot(tmp_path / "curves.png", "three epochs")
    assert path == tmp_path / "curves.png" and path.stat().st_size > 5_000


def test_without_matplotlib_the_message_says_how_to_get_it(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # import then raises ImportError
    with pytest.raises(ImportError, match=r"pip install 'fastbp\[plot\]'"):
        learning_curves(FULL, tmp_path / "none.png")


def test_neither_pyplot_nor_matplotlib_is_imported_before_it_is_needed(tmp_path):
    pytest.importorskip("matplotlib")
    code = (
        "import sys; from fastbp.drawing.plots import learning_curves; assert 'matplotlib' not in "
        "sys.modules; learning_curves({'loss': [1, 0.5]}, sys.argv[1]); assert "
        "'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.png")], check=True)


# --- pictures of a model


@pytest.fixture
def rng():
    return np.random.default_rng()


def is_picture(path):
    wide, high = png_size(path)
    return wide > 100 and high > 100


def test_confusion_counts_and_draws(tmp_path, rng):
    pytest.importorskip("matplotlib")
    true, predicted = rng.integers(0, 3, 500), rng.integers(0, 3, 500)
    counts = pictures.confusion(true, predicted, "abc")
    assert counts.sum() == 500 and counts[1, 2] == ((true == 1) & (predicted == 2)).sum()
    assert is_picture(
        pictures.confusion_matrix(true, predicted, ["a", "b", "a longer name"], tmp_path / "c.png")
    )
    with pytest.raises(ValueError, match="got 31, takes up to 30"):
        pictures.confusion_matrix(true, predicted, range(31), tmp_path / "x.png")


def test_the_other_pictures(tmp_path, rng):
    pytest.importorskip("matplotlib")
    y = rng.standard_normal(9000)
    assert is_picture(pictures.predicted_against_true(y, y + 1, tmp_path / "p.png", "price"))
    weights = [rng.standard_normal((64, 50)), np.zeros((50, 3))]
    assert is_picture(pictures.histograms(weights, None, tmp_path / "h.png"))
    assert is_picture(pictures.histograms(weights, weights, tmp_path / "g.png"))
    assert is_picture(pictures.filters(weights[0], tmp_path / "f.png"))
    assert is_picture(pictures.filters(weights[0], tmp_path / "f.png", (4, 16), most=3))
    with pytest.raises(ValueError, match="got 50 inputs"):
        pictures.filters(weights[1], tmp_path / "x.png")
    X = rng.standard_normal((300, 2))
    right = (X[:, 0] > 0).astype(int)
    plane = []

    def predict(points):
        plane.append(points)
        return (points[:, 0] > 0).astype(int)

    assert is_picture(pictures.decision_boundary(predict, X, right, ["no", "yes"], tmp_path / "d.png"))
    assert (plane[0].min(axis=0) < X.min(axis=0)).all() and (plane[0].max(axis=0) > X.max(axis=0)).all()


class _Page(HTMLParser):
    """The tags, addresses and text of a page; unbalanced tags fail."""

    def __init__(self, text):
        super().__init__()
        self.open, self.sources, self.text = [], [], ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "img"):
            self.open.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_reports_are_whole_pages(tmp_path, monkeypatch, rng):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    x = rng.standard_normal((300, 2))
    table = np.column_stack([x, x[:, 0] + x[:, 1] > 0]).astype(object)
    rows = [f"{a:.4f},{b:.4f},{'<yes>' if c else 'no & no'}" for a, b, c in table]
    (tmp_path / "plane.csv").write_text("a,<b>,answer\n" + "\n".join(rows) + "\n")
    (tmp_path / "line.csv").write_text("a,b,y\n" + "\n".join(f"{a},{b},{a - b + 0.5}" for a, b in x) + "\n")
    expected = {
        "plane.csv": ["Learning curves", "Confusion matrix", "Decision boundary", "Weights and gradients"],
        "line.csv": ["Learning curves", "Predicted against true", "Weights and gradients"],
        "digits": ["Learning curves", "Confusion matrix", "Weights and gradients", "Filters"],
    }
    for data, headings in expected.items():
        argv = ["train", data, "--epochs", "3", "--hidden", "16", "--quiet", "--report", f"deep/{data}.html"]
        assert cli.main(argv) == 0
        text = (tmp_path / "deep" / f"{data}.html").read_text()
        page = _Page(text)
        words = [*headings, "Configuration", "Machine", "numba", "cores", "test "]
        assert all(word in page.text for word in words)
        assert len(page.sources) == len(headings)
        for source in page.sources:  # nothing is fetched from anywhere
            kind, _, code = source.partition(",")
            assert kind == "data:image/png;base64" and base64.b64decode(code)[1:4] == b"PNG"
    assert "<yes>" not in (tmp_path / "deep" / "plane.csv.html").read_text()


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
