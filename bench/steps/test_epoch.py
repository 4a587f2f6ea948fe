"""An epoch of each of the six workloads under pytest-benchmark, fastbp beside NumPy.

    pytest bench/steps/test_epoch.py --benchmark-only
    pytest bench/steps/test_epoch.py --benchmark-only --benchmark-autosave
    pytest bench/steps/test_epoch.py --benchmark-only --benchmark-compare

The whole comparison, each peer in its own process, is `python -m bench`.
"""

import functools
import time

import pytest

from bench.steps import peers
from bench.steps.cases import SIX
from bench.steps.compare import agree
from bench.steps.workers import REST


@functools.lru_cache(maxsize=1)
def trained(case):
    """{name: peer} and the order of the first epoch, once the losses of two epochs have agreed."""
    from fastbp.engine.parallel import usable_cores

    X, y = case.data()
    orders = peers.Fastbp.orders(case.samples, 2)
    found, losses = {}, {}
    for name in ("fastbp", "numpy"):
        found[name] = peers.load(name)(case, X, y, usable_cores())
        found[name].reset()
        losses[name] = found[name].run(orders)
    assert agree(losses["numpy"], losses["fastbp"])
    return found, orders[0]


@pytest.mark.parametrize("name", ["fastbp", "numpy"])
@pytest.mark.parametrize("case", SIX, ids=lambda case: case.name)
def test_epoch(benchmark, case, name):
    found, order = trained(case)
    peer = found[name]
    benchmark.group = f"{case.name}: an epoch of {case.steps} steps, {case.shape}"
    benchmark.extra_info |= {"steps": case.steps, "gflop": case.steps * case.gflop}
    time.sleep(REST)  # the threads of what ran before, OpenBLAS's above all, have stopped spinning then
    benchmark.pedantic(peer.epoch, setup=lambda: _reset(peer, order), rounds=15, warmup_rounds=1)


def _reset(peer, order):
    peer.reset()
    return (order,), {}
