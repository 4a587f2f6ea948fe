"""trainer.explain(): complete, consistent, and without effect on the trainer."""

import numpy as np
import pytest

import fastbp as fb
from fastbp.engine.parallel import usable_cores
from fastbp.kernels.cpu import measure
from fastbp.machine import Peak, caches, cpu_model


@pytest.mark.parametrize("options", [{}, {"loss": "mse"}, {"clip_norm": 1.0}, {"threads": 2}])
def test_explain(options):
    trainer = fb.Trainer(fb.MLP([20, 48, 32, 3], seed=0), batch_size=16, **options)
    before = trainer.net.params.copy()
    report = trainer.explain(seconds=0.05)
    assert np.array_equal(trainer.net.params, before) and trainer.steps == 0
    names = [row.name for row in report.rows]
    assert [n for n in names if n.startswith("layer 1")] == [
        "layer 1 forward", "layer 1 dX", "layer 1 dW + update"
    ]  # fmt: skip
    assert "layer 0 dX" not in names and {"gather", "loss"} <= set(names)
    assert ("clip" in names) == ("clip_norm" in options)
    assert sum(row.seconds for row in report.rows) == pytest.approx(report.seconds)
    products = [20 * 48, 48 * 32, 32 * 3]
    assert report.flops == 2 * 16 * (3 * sum(products) - products[0])
    text = str(report)
    assert "us a step" in text and "of peak" in text and "20-48-32-3, batch 16" in text
    if "threads" in options:
        assert report.threads == 2 and "as asked" in text


def test_peak_loop_computes_what_it_counts():
    """Each pass is one multiply-add of every chain: the chains' sum is what NumPy gets."""
    peak = Peak(1, "float64")
    numbers = np.array([0.5, 3.0, np.nan])
    lanes = peak._run(4, numbers)
    chains = np.arange(measure.CHAINS, dtype=float)
    for _ in range(4):
        chains = chains * 0.5 + 3.0
    assert numbers[2] == pytest.approx(chains.sum(), rel=1e-15) and lanes in (2, 4, 8)
    assert peak.gflops(tries=1) > 0


def test_machine():
    assert usable_cores() >= 1 and cpu_model()
    assert all(size[:-1].isdigit() for size in caches().values())
