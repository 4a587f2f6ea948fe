"""The benchmarks behind the tables of docs/: they run, and cover what the program has."""

import math

import numpy as np
import pytest

from bench import __main__ as command
from bench.parts import fitting, kernels, layers, turns
from bench.steps.cases import Case
from fastbp.kernels import codes
from fastbp.kernels.cpu import program


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(turns, "SECONDS", 0.0)


def test_turns_take_the_fastest_run():
    calls = []
    found = turns.best({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 3)
    assert calls == ["a", "a", "b", "b", "a", "b", "a", "b", "a", "b"]
    assert 0 < found["a"] < 0.1 and 0 < found["b"] < 0.1


def test_single_kernels():
    program.load(np.dtype("float32"))
    found = kernels.activations(2)
    assert set(found) == set(codes.ACTIVATIONS) - {"identity"} and all(map(math.isfinite, found.values()))
    assert {code % codes.RULES for code in kernels.RULES.values()} >= set(range(codes.SGD, codes.RULES)) - {
        codes.RMSPROP_MOMENTUM,
        codes.RMSPROP_CENTERED,
        codes.RMSPROP_CENTERED_MOMENTUM,
    }
    assert all(ns > 0 for ns in kernels.updates(1).values())
    two, one = kernels.loss_costs(2, 1), kernels.loss_costs(1, 1)
    assert set(two) == set(kernels.LOSSES) and all(ns > 0 for ns in two.values())
    assert {"mse", "bce"} <= set(one) and not {"cross_entropy", "gaussian"} & set(one)
    assert {loss.name for loss in kernels.LOSSES.values()} >= set(codes.LOSSES) - {"mae", "gamma_nll"}
    table, explained = kernels.products(0.01)
    assert [row[0] for row in table[1:]] == ["forward", "dX", "dW + update"] and len(explained) == 2
    assert [bool(cell) for cell in table[2][1:]] == [True, False, True]  # nobody needs the inputs' gradient


def test_layers():
    found = layers.measure(Case("small", (5, 9, 3), batch=8, steps=2), 1, 1)
    assert set(found) == set(layers.EXTRAS) - {"residual"}  # no two widths agree
    header, row = layers.rows({"small": found})
    assert len(header) == len(row) == 9 and row[header.index("residual")] == ""


def test_fitting():
    works = fitting.single_steps(32, 1)
    assert "fastbp" in works and all(seconds > 0 for seconds in turns.best(works, 1).values())
    assert list(turns.best(fitting.frozen((6, 5, 4, 3), 4, 2, 1), 1)) == [0, 1, 2]
    assert list(turns.best(fitting.coders((6, 4, 2), 4, 2, 1), 1)) == list(fitting.KINDS)


def test_every_part_is_a_module_that_the_command_finds(capsys):
    for name in command.PARTS:
        assert callable(pytest.importorskip(f"bench.parts.{name}").main)
    assert command.main(["--fitting", "--quick", "--rounds", "1", "--threads", "1"]) == 0
    assert "autoencoder" in capsys.readouterr().out
