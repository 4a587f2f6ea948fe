"""Pictures: of every kind of history, as files and as notebooks show them, told in words and numbers."""

import inspect
import re
import struct
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest

import fastbp as fb
from fastbp import diagnosis, lrfind, pictures
from fastbp.drawing import picture as drawn
from fastbp.drawing.plots import learning_curves

FULL = {
    "loss": [1.2, 0.5, 0.1, 0.02],
    "val_loss": [1.3, 0.6, 0.3, 0.35],
    "accuracy": [0.6, 0.8, 0.95, 0.99],
    "val_accuracy": [0.5, 0.7, 0.9, 0.89],
}


def png_size(picture):
    data = picture.path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", data[16:24])


def test_two_panels_with_accuracy_one_without(tmp_path):
    pytest.importorskip("matplotlib")
    both = learning_curves(FULL, tmp_path / "both.png", title="a title")
    loss = learning_curves({"loss": FULL["loss"]}, str(tmp_path / "loss.png"))
    (wide, high), (narrow, as_high) = png_size(both), png_size(loss)
    assert 1000 < wide < 2500 and 400 < high < 1200
    assert narrow < 0.6 * wide and as_high == high
    assert both.path.stat().st_size > 10_000


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
    assert learning_curves(FULL, tmp_path / "curves.pdf").path.read_bytes()[:5] == b"%PDF-"
    ElementTree.parse(learning_curves(FULL, tmp_path / "curves.svg").path)
    with pytest.raises(ValueError, match="xyz"):
        learning_curves(FULL, tmp_path / "curves.xyz")


@pytest.mark.parametrize("history", [{}, {"loss": []}, {"loss": [float("nan")]}])
def test_a_history_without_a_loss_is_refused(tmp_path, history):
    pytest.importorskip("matplotlib")
    with pytest.raises(ValueError, match="history: holds no 'loss'"):
        learning_curves(history, tmp_path / "none.png")
    assert not list(tmp_path.iterdir())


def test_the_words_and_numbers_of_a_history():
    pytest.importorskip("matplotlib")
    picture = learning_curves(FULL)
    assert picture.rows[0] == ["epoch", "loss", "validation loss", "accuracy", "validation accuracy"]
    assert picture.rows[3] == ["3", "0.1", "0.3", "0.95", "0.9"] and len(picture.rows) == 5
    assert "loss training 1.2 to 0.02, validation 1.3 to 0.35, best validation 0.3, epoch 3" in picture.words


def test_a_fit_draws_its_own_curves(tmp_path, rng):
    pytest.importorskip("matplotlib")
    X, y = rng.standard_normal((30, 3)), rng.integers(0, 2, 30)
    history = fb.Trainer(fb.MLP([3, 4, 2], seed=0)).fit(X, y, epochs=3, validation_split=0.2, metrics="f1")
    picture = history.plot(tmp_path / "curves.png", "three epochs")
    assert picture.path == tmp_path / "curves.png" and picture.path.stat().st_size > 5_000
    assert picture.title == "three epochs"


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


# --- every picture


def every_plot(rng):
    """{function: (arguments, it may hold a bitmap)} of all that draws."""
    X, y = rng.standard_normal((60, 9)), rng.integers(0, 3, 60)
    trainer = fb.Trainer(fb.MLP([9, 8, 3], seed=0), seed=0)
    history = trainer.fit(X, y, epochs=3, validation_split=0.2, verbose=0)
    probabilities, W = trainer.predict(X), trainer.net.weights
    return {
        history.plot: ({}, False),
        trainer.diagnose(X, y).plot: ({}, False),
        trainer.lr_find(X, y, steps=10).plot: ({}, False),
        pictures.confusion_matrix: (
            {"true": y, "predicted": probabilities.argmax(1), "classes": ["a", "<b>", "a longer name & so"]},
            False,
        ),
        pictures.reliability: ({"true": y, "probabilities": probabilities}, False),
        pictures.predicted_against_true: ({"true": X[:, 0], "predicted": X[:, 1], "name": "price"}, False),
        pictures.histograms: ({"weights": W, "gradients": W}, False),
        pictures.filters: ({"W": W[0]}, True),
        pictures.decision_boundary: (
            {"predict": lambda plane: (plane[:, 0] > 0).astype(int), "X": X[:, :2], "labels": y % 2,
             "classes": ["no", "yes"]},
            True,
        ),
    }  # fmt: skip


def test_every_plot_is_shown_and_told(tmp_path, rng):
    """Without a path: SVG, the same each time, for light and dark pages, with title, words and numbers."""
    pytest.importorskip("matplotlib")
    plots = every_plot(rng)
    takes = [
        *(getattr(pictures, name) for name in pictures.__all__),
        fb.History.plot,
        diagnosis.Diagnosis.plot,
        lrfind.RangeTest.plot,
    ]
    takes = [f for f in takes if inspect.isroutine(f) and "path" in inspect.signature(f).parameters]
    assert {f.__qualname__ for f in takes} == {f.__qualname__ for f in plots}
    for plot, (given, bitmap) in plots.items():
        picture = plot(**given)
        text = picture.svg()
        root = ElementTree.fromstring(text)
        name = "{http://www.w3.org/2000/svg}"
        assert (root.find(f"{name}title").text, root.find(f"{name}desc").text) == (
            picture.title,
            picture.words,
        )
        assert root.get("role") == "img" and root.get("aria-label") == f"{picture.title}. {picture.words}"
        assert list(root.iter(f"{name}text")) or bitmap  # text as text
        assert bool(list(root.iter(f"{name}image"))) == bitmap
        assert "prefers-color-scheme:dark" in text and not re.search(
            r"<g id=|<metadata|<\?xml|<!DOCTYPE", text
        )
        assert set(re.findall(r'(?:href|src)="([^"#]*)', text)) <= {""} or bitmap  # nothing is fetched
        assert picture.words.endswith(".") and picture.path is None
        assert len(picture.rows) > 1 and {len(row) for row in picture.rows} == {len(picture.rows[0])}
        assert all(isinstance(cell, str) for row in picture.rows for cell in row)
        again = plot(**given, path=tmp_path / "again.png")
        assert min(png_size(again)) > 100
        assert again.svg() == text == picture._repr_svg_()
        assert repr(again) == f"Picture({picture.title}, in {again.path}: {picture.words})"


def luminance(color):
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


def contrast(one, other):
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def mixed(color, ground, share):
    pairs = [(int(color[i : i + 2], 16), int(ground[i : i + 2], 16)) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(share * c + (1 - share) * g):02x}" for c, g in pairs)


def test_colors_can_be_read_on_light_and_dark_pages():
    """WCAG's contrast: 4.5 for text, 3 for the rest."""
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    light = {name: getattr(drawn, name) for name in ("GROUND", "INK", "TRAIN", "VALIDATION", "SHADE")}
    for colors in (light, {name: drawn.DARK[color] for name, color in light.items()}):
        for name in ("INK", "TRAIN", "VALIDATION"):
            assert contrast(colors[name], colors["GROUND"]) >= 4.5
        assert contrast(colors["SHADE"], colors["GROUND"]) >= 3
        cell = mixed(colors["SHADE"], colors["GROUND"], 0.65)
        assert contrast(colors["INK"], cell) >= 4.5


# --- pictures of a model


@pytest.fixture
def rng():
    return np.random.default_rng()


def test_confusion_counts(rng):
    pytest.importorskip("matplotlib")
    true, predicted = rng.integers(0, 3, 500), rng.integers(0, 3, 500)
    counts = pictures.confusion(true, predicted, "abc")
    assert counts.sum() == 500 and counts[1, 2] == ((true == 1) & (predicted == 2)).sum()
    picture = pictures.confusion_matrix(true, predicted, ["a", "b", "a longer name than 14"])
    assert picture.rows[0][1:] == ["a", "b", "a longer name than 14"]
    assert np.array([row[1:] for row in picture.rows[1:]], int).tolist() == counts.tolist()
    with pytest.raises(ValueError, match="got 31, takes up to 30"):
        pictures.confusion_matrix(true, predicted, range(31))


def test_scores_of_classes_are_scikit_learns(rng):
    metrics = pytest.importorskip("sklearn.metrics")
    for _ in range(20):
        classes = int(rng.integers(2, 6))
        true, predicted = rng.integers(0, classes, (2, 40))
        predicted[predicted == 1] = 0  # nobody is said to be of class 1
        mine = pictures.per_class(pictures.confusion(true, predicted, range(classes)))
        theirs = metrics.precision_recall_fscore_support(
            true, predicted, labels=range(classes), zero_division=0
        )
        for one, other in zip(mine, theirs, strict=True):
            assert one == pytest.approx(other, abs=1e-15)


def test_calibration_is_scikit_learns(rng):
    """And the expected calibration error, for any number of classes, by hand."""
    calibration_curve = pytest.importorskip("sklearn.calibration").calibration_curve
    p = np.r_[rng.uniform(0, 1, 400), 0.0, 0.1, 0.3, 1.0]  # also what lies between two bins
    y = (rng.uniform(0, 1, 404) < p**1.5).astype(int)
    for probabilities in (p, p[:, None], np.stack([1 - p, p], axis=1)):
        found = pictures.calibration(y, probabilities)
        right, said = calibration_curve(y, p, n_bins=10)
        there = found.count > 0
        np.testing.assert_allclose(found.right[there], right, rtol=1e-14)
        np.testing.assert_allclose(found.said[there], said, rtol=1e-14)
        assert found.count.sum() == 404
    three = rng.dirichlet([0.5] * 3, 300)
    labels = rng.integers(0, 3, 300)
    found, top, hit = pictures.calibration(labels, three), three.max(1), three.argmax(1) == labels
    error = sum(
        abs(top[inside].sum() - hit[inside].sum())
        for inside in (np.ceil(10 * top) == k for k in range(1, 11))
    )
    assert found.error == pytest.approx(error / 300, rel=1e-12)
    assert np.isnan(found.right[0]) and found.count[:3].sum() == 0  # no largest of three is below a third
    assert pictures.calibration([1, 0], [1.0, 0.0]).error == 0


def test_the_other_pictures(rng):
    pytest.importorskip("matplotlib")
    y = rng.standard_normal(9000)
    picture = pictures.predicted_against_true(y, y + 1, name="price")
    assert "mean absolute error 1." in picture.words and len(picture.rows) == 11
    assert picture.svg().count("<use") < 2100  # not a dot for each
    weights = [rng.standard_normal((64, 50)), np.zeros((50, 3))]
    assert (
        len(pictures.histograms(weights, None).rows) == 3
        and len(pictures.histograms(weights, weights).rows) == 5
    )
    assert len(pictures.filters(weights[0]).rows) == 41
    assert len(pictures.filters(weights[0], shape=(4, 16), most=3).rows) == 4
    with pytest.raises(ValueError, match="got 50 inputs"):
        pictures.filters(weights[1])
    X = rng.standard_normal((300, 2))
    right = (X[:, 0] > 0).astype(int)
    plane = []

    def predict(points):
        plane.append(points)
        return (points[:, 0] > 0).astype(int)

    assert pictures.decision_boundary(predict, X, right, ["no", "yes"]).rows[1][2] == f"{(right == 0).sum()}"
    assert (plane[0].min(axis=0) < X.min(axis=0)).all() and (plane[0].max(axis=0) > X.max(axis=0)).all()
