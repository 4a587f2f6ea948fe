"""Learning curves: a picture comes out of every kind of history, and without matplotlib a hint."""

import struct
import subprocess
import sys

import pytest

from fastbp.plots import learning_curves

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


def test_without_matplotlib_the_message_says_how_to_get_it(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # import then raises ImportError
    with pytest.raises(ImportError, match=r"pip install 'fastbp\[plot\]'"):
        learning_curves(FULL, tmp_path / "none.png")


def test_neither_pyplot_nor_matplotlib_is_imported_before_it_is_needed(tmp_path):
    pytest.importorskip("matplotlib")
    code = (
        "import sys; from fastbp.plots import learning_curves; assert 'matplotlib' not in "
        "sys.modules; learning_curves({'loss': [1, 0.5]}, sys.argv[1]); assert "
        "'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.png")], check=True)
