"""The machinery of the benchmarks: cases, agreement of losses, tables, files. Nothing is timed here."""

import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from bench import __main__ as command
from bench.parts import features, predictors, scale, startup
from bench.steps import cases, compare, machine, peers, report
from bench.steps.cases import Case
from fastbp import losses
from fastbp.engine.options import Options
from fastbp.network import activations
from fastbp.optimizers import OPTIMIZERS

SMALL = Case("small", (5, 9, 3), batch=8, steps=6, lr=1e-2)


def test_multiply_adds_of_a_step():
    case = Case("case", (7, 5, 3), batch=4, steps=1)
    assert case.multiply_adds == 4 * (2 * 7 * 5 + 3 * 5 * 3)  # no dX for the first layer
    assert case.gflop == pytest.approx(2e-9 * case.multiply_adds)
    assert case.parameters == 7 * 5 + 5 + 5 * 3 + 3
    assert case.step_bytes == 4 * (6 * case.parameters + 4 * 7)


def test_cases_are_selected_by_name_group_and_pattern():
    assert [c.name for c in cases.select("six")] == ["tiny", "digits", "tab", "mnist", "keras", "wide"]
    assert [c.name for c in cases.select("tiny,mnist-b*,tiny")] == ["tiny", "mnist-b8", "mnist-b4096"]
    everything = cases.select("all")
    assert len({c.name for c in everything}) == len(everything) == len(cases.SIX) + len(cases.VARIANTS)
    assert {(c.batch, c.optimizer, c.activation, c.loss) for c in cases.VARIANTS} >= {
        (128, "sgd", "relu", "cross_entropy"),
        (128, "adam", "tanh", "cross_entropy"),
        (128, "adam", "gelu", "cross_entropy"),
        (128, "adam", "relu", "mse"),
        (100, "adam", "relu", "cross_entropy"),
        (8, "adam", "relu", "cross_entropy"),
        (4096, "adam", "relu", "cross_entropy"),
    }
    with pytest.raises(ValueError, match="cases: got 'medium', takes six"):
        cases.select("tiny,medium")


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_data_is_repeatable_and_full(loss):
    case = Case("case", (5, 9, 3), batch=8, steps=6, loss=loss)
    X, y = case.data()
    assert X.shape == (48, 5) and X.dtype == np.float32
    for a, b in zip((X, y), case.data(), strict=True):
        np.testing.assert_array_equal(a, b)
    if loss == "mse":
        assert y.shape == (48, 3) and y.dtype == np.float32 and y.std() > 0.1
    else:
        assert y.shape == (48,) and set(y) == {0, 1, 2}
    assert [(W.shape, b.shape) for W, b in case.weights()] == [((5, 9), (9,)), ((9, 3), (3,))]


def trained(name, case, epochs=2):
    peer = peers.load(name)(case, *case.data(), 1)
    orders = peers.Fastbp.orders(case.samples, epochs)
    peer.reset()
    first = peer.run(orders)
    peer.reset()
    assert peer.run(orders) == first  # reset() leaves nothing behind
    return first


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_losses_of_numpy_and_fastbp_agree(activation, loss, optimizer):
    case = Case("case", (5, 9, 7, 3), 8, 6, activation, loss, optimizer, lr=1e-2)
    ours, theirs = trained("fastbp", case), trained("numpy", case)
    assert max(compare.disagreement(theirs, ours)) < 1e-5
    assert ours[1] < ours[0]


@pytest.mark.parametrize(
    ("name", "module"),
    [("torch", "torch"), ("torch.compile", "torch"), ("jax", "jax"), ("sklearn", "sklearn")],
)
def test_losses_of_the_other_peers_agree(name, module):
    pytest.importorskip(module)
    if name == "torch.compile":
        pytest.skip("needs a C++ compiler and half a minute; the benchmark itself compares its losses")
    assert max(compare.disagreement(trained(name, SMALL), trained("fastbp", SMALL))) < 1e-4


def test_orders_are_those_of_a_fit():
    first, second = peers.Fastbp.orders(SMALL.samples, 2)
    assert sorted(first) == sorted(second) == list(range(SMALL.samples))
    assert not np.array_equal(first, second)
    peer = peers.load("fastbp")(SMALL, *SMALL.data(), 1)
    peer.reset()
    straight = peer.run([first, second])
    theirs = peers.load("numpy")(SMALL, *SMALL.data(), 1)
    theirs.reset()
    swapped = theirs.run([second, first])
    assert not compare.agree(swapped, straight)  # another order is noticed


def test_unsupported_is_said():
    case = Case("case", (5, 9, 3), 8, 6, activation="gelu")
    with pytest.raises(peers.Unsupported, match="gelu"):
        peers.load("numpy")(case, *case.data(), 1)


class _Fake:
    """A worker that answers at once."""

    def __init__(self, losses, seconds=1.0):
        self.losses, self.seconds = losses, seconds

    def call(self, method, *args):
        if method == "run":
            return self.seconds * args[0], (self.losses * args[0])[: args[0]]
        return "note" if method == "open" else [np.arange(SMALL.samples)] * 2


class _Peak:
    def gflops(self, threads=None):
        return 100.0 if threads == 1 else 200.0


def compared(monkeypatch, **losses):
    monkeypatch.setattr(compare, "REST", 0)
    team = {name: _Fake(values, k + 1.0) for k, (name, values) in enumerate(losses.items())}
    return compare.compare(SMALL, team, 3, _Peak(), say=lambda text: None)


def test_a_peer_whose_losses_differ_is_not_timed(monkeypatch):
    result = compared(
        monkeypatch, fastbp=[1.0, 0.5], numpy=[1.0005, 0.503], jax=[1.002, 0.5], torch=[1.0, np.nan]
    )
    assert len(result["peers"]["numpy"]["us"]) == 3
    for name in ("jax", "torch"):
        assert result["peers"][name]["us"] == [] and "not timed" in result["peers"][name]["error"]
    assert compare.summarize(result)["best"] is None


def test_summary_and_tables(monkeypatch, tmp_path):
    result = compared(monkeypatch, fastbp=[1.0, 0.5], numpy=[1.0, 0.5], torch=[1.0, 0.5], jax=[1.0, 0.6])
    summary = compare.summarize(result)
    us = 1e6 / SMALL.steps
    assert summary["peers"]["fastbp"]["us"] == pytest.approx(us)
    assert summary["peers"]["fastbp"]["share"] == pytest.approx(SMALL.gflop / (us / 1e6) / 200)
    assert summary["peers"]["numpy"]["times"] == pytest.approx(2)
    assert summary["best"] == "torch" and list(summary["errors"]) == ["jax"]
    rows = report.step_rows([result])
    assert (
        rows[0][-1] == "best rival"
        and rows[1][-1] == "torch 3.0x"
        and rows[1][:2] == ["small", "5-9-3, batch 8"]
    )
    text = report.table(rows, left=2).splitlines()
    assert len(text) == 3 and set(text[1]) == {"-", " "} and len(text[1]) >= len(text[2])
    markdown = report.table(report.readme_rows([result]), markdown=True).splitlines()
    assert len({line.count("|") for line in markdown}) == 1 and markdown[1].startswith("| :-- | --: |")
    assert any("jax: not timed" in line for line in report.notes([result]))

    described = machine.describe(2)
    lines = report.machine_lines(described, [result], {"one": 10.0, "all": 20.0})
    assert any("200" in line and "FMA peak" in line for line in lines)
    content = {"machine": described, "bandwidth": {"one": 10.0, "all": 20.0}, "results": [result]}
    path = report.write_json(tmp_path / "deep" / "bench.json", content)
    assert json.loads(path.read_text()) == json.loads(json.dumps(content))
    assert [p.name for p in path.parent.iterdir()] == ["bench.json"]

    pytest.importorskip("matplotlib")
    from bench.steps import plots

    drawn = plots.draw(content, tmp_path / "pictures", tmp_path / "docs" / "roofline.png")
    assert [p.name for p in drawn] == ["speedup.png", "roofline.png", "roofline.png"]
    for picture in drawn:
        assert picture.read_bytes().startswith(b"\x89PNG")
    scaled = [result | {"axis": "width", "size": size} for size in (16, 32)]
    assert scale.curves(content | {"results": scaled}, tmp_path / "scale.png").stat().st_size > 10_000
    assert scale.rows(scaled, ["fastbp", "jax"])[1][-1] == "-"


def test_durations_have_units():
    found = [report.duration(us) for us in (0.5, 12.345, 999.4, 999.6, 12345, 999_600)]
    assert found == ["0.5 us", "12.3 us", "999 us", "1 ms", "12.3 ms", "1 s"]
    assert [report.times(ratio) for ratio in (0.84, 9.94, 9.96, 123)] == ["0.8x", "9.9x", "10x", "123x"]


def test_scale_covers_its_axes():
    points = [point for axis in scale.sweeps().values() for point in axis]
    assert all(case.steps >= 2 and np.isfinite(case.gflop) for _, case in points)
    sizes = {axis: [size for size, _ in points] for axis, points in scale.sweeps().items()}
    assert sizes["width"][0] == 16 and sizes["width"][-1] == 4096
    assert sizes["depth"][0] == 1 and sizes["depth"][-1] == 32
    assert sizes["batch"][0] == 1 and sizes["batch"][-1] == 8192
    assert len(scale.sweeps(quick=True)["batch"]) < len(sizes["batch"])


def test_startup_table():
    times = {"import": [0.1, 0.3, 0.2], "full": [1.0], "empty": [9.0], "numba": [0.4], "second": [0.1]}
    rows = startup.rows(times)
    assert rows[1][1:] == ("0.200 s", "0.100 s", "0.300 s", "0.15 s") and rows[4][-1] == ""


@pytest.mark.parametrize("name", ["fastbp", *sorted(set(predictors.installed()) - {"fastbp", "numpy"})])
def test_predictors_agree(name):
    x = np.random.default_rng(0).standard_normal((10, 5), np.float32)
    expected = predictors.numpy(SMALL, 1)(x)
    np.testing.assert_allclose(getattr(predictors, name)(SMALL, 1)(x), expected, atol=1e-6)
    np.testing.assert_allclose(expected.sum(axis=1), 1, rtol=1e-6)


def test_command_line_says_what_is_wrong(capsys):
    assert command.main(["--cases", "medium"]) == 2
    assert "bench: cases: got 'medium'" in capsys.readouterr().err
    assert command.main(["--peers", "numpi"]) == 2
    assert "bench: peers: got 'numpi', takes fastbp, numpy" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        command.main(["--rounds", "0"])
    assert "--rounds: got 0" in capsys.readouterr().err


def test_peak_is_of_this_machine():
    peak = machine.Peak(1)
    assert peak.lanes in (4, 8, 16)
    assert peak.gflops(tries=1) > 0.1


def test_features_are_measured_beside_the_plain_step():
    """Every one of them can be trained with, and is timed."""
    names = [feature.name for feature in features.FEATURES]
    assert len(set(names)) == len(names) and names[0] == features.PLAIN
    for part in features.PARTS.values():
        found = features.measure(part, 1, 1, 8, sizes=(12, 4, 4, 10), samples=20)
        table = features.rows({8: found})
        assert [row[0] for row in table] == ["feature", *(f.name for f in part)]
        assert all(step > 0 and ratio > 0 for step, ratio in found.values()) and table[1][1].endswith("s)")


def test_all_that_a_trainer_takes_has_its_cost_measured_and_told():
    """A row of the table, and that row in the docs, for whatever has a name."""
    options = [f.options for f in features.FEATURES]
    assert {type(o["optimizer"]) for o in options if "optimizer" in o} == set(OPTIMIZERS.values())
    ours = {kind for kind in losses.LOSSES.values() if isinstance(kind, type)}  # beside users' of other tests
    assert {type(o["loss"]) for o in options if "loss" in o} >= ours
    assert {name for o in options for name in o} >= {field.name for field in fields(Options)} | {"schedule"}
    assert {f.net.get("activation") for f in features.FEATURES} >= set(activations.NAMES)
    docs = Path(__file__).resolve().parents[2] / "docs"
    told = "".join((docs / f"{name}.md").read_text() for name in ("training", "speed"))
    assert [f.name for f in features.FEATURES if f"\n| {f.name} | " not in told] == []
    assert command.main(["--features", "--cases", "loses"]) == 2
    layers = "| dropout 0.2 | input dropout | layer norm | batch norm | residual | embeddings |"
    assert layers in (docs / "layers.md").read_text()


def test_estimators_take_turns_on_the_same_folds():
    pytest.importorskip("sklearn")
    from bench.parts import estimators, tables

    assert len(list(tables.shipped())) == 6 and len(list(tables.real())) >= 2
    name, classifies, X, y = next(tables.real())
    models = estimators.rivals(classifies)
    models["preset"].set_params(max_iter=2)
    result = estimators.compare(name, classifies, X, y, models, 2, 1)
    assert set(result["score"]) == {"preset", "plain", "scikit-learn", "boosted trees"}
    assert all(len(s) == 2 and min(s) > 0.5 for s in result["score"].values())
    assert all(min(s) > 0 for s in result["seconds"].values())
    header, row = estimators.preset_rows([result])
    assert row[:2] == ["breast_cancer", "569 x 30"] and len(row) == len(header) == 10
    same = result | {"score": dict.fromkeys(("fastbp", "float32", "scikit-learn"), [0.5, 1.0])}
    same |= {"seconds": {"fastbp": [1.0], "float32": [0.5], "scikit-learn": [4.0]}}
    header, row = estimators.same_rows([same])
    assert row[2:] == ["0.750"] * 3 + ["1 s", "500 ms", "4 s", "4.0x"] and len(row) == len(header)
