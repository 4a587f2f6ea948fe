"""How threads are chosen, and what must work around them: two callers, forked children, busy cores."""

import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest

import fastbp as fb
from fastbp.engine.parallel import Team

rng = np.random.default_rng(0)
X, y = rng.standard_normal((400, 20)).astype("float32"), rng.integers(0, 3, 400)


def weights(threads=2, **options):
    trainer = fb.Trainer(fb.MLP([20, 64, 64, 3], seed=0), batch_size=64, seed=0, threads=threads, **options)
    trainer.fit(X, y, epochs=5)
    return trainer.net.params


class Clock:
    """Windows of 10 ms each with given seconds a step per number of threads."""

    def __init__(self, team):
        self.team, self.time, self.used = team, 0.0, []

    def run(self, windows, cost):
        for _ in range(windows):
            threads, trial = self.team.choose(self.time)
            self.time += 0.01
            self.team.record(threads, trial, cost[threads], self.time)
            self.used.append(threads)


def test_team_settles_on_what_is_faster():
    clock = Clock(Team(2, fixed=False))
    clock.run(20, {1: 1.0, 2: 2.0})  # 0.2 seconds
    assert clock.team.threads == 1
    clock.run(30, {1: 1.0, 2: 2.0})
    assert clock.team.threads == 1 and clock.used[-20:] == [1] * 20
    clock = Clock(Team(2, fixed=False))
    clock.run(3000, {1: 2.0, 2: 1.0})
    assert clock.team.threads == 2
    assert (
        clock.used.count(1) <= 3 * 10
    )  # trials grow rare: 0.02, 0.08, 0.3, 0.6, ... 8, 8, ... seconds apart


def test_team_leaves_a_core_that_got_busy_and_comes_back():
    clock = Clock(Team(2, fixed=False))
    clock.run(500, {1: 2.0, 2: 1.0})
    clock.run(60, {1: 2.0, 2: 5.0})
    assert clock.team.threads == 1
    clock.run(1000, {1: 2.0, 2: 1.0})
    assert clock.team.threads == 2


def test_much_work_leaves_all_cores_only_for_a_clear_gain():
    clock = Clock(Team(2, fixed=False, work=10**9))
    clock.run(3700, {1: 0.9, 2: 1.0})
    assert clock.team.threads == 2 and 0 < clock.used.count(1) <= 3 * 9
    clock.run(1000, {1: 0.9, 2: 3.0})
    assert clock.team.threads == 1
    clock = Clock(Team(2, fixed=False, work=10**9))
    clock.run(20, {1: 1.0, 2: 3.0})  # another program wants a core from the start
    assert clock.team.threads == 1


def test_a_number_asked_for_is_kept():
    clock = Clock(Team(2, fixed=True))
    clock.run(500, {1: 1.0, 2: 9.0})
    assert set(clock.used) == {2}


def test_two_trainers_in_two_threads():
    alone = weights()
    results = [None, None]

    def fit(i):
        results[i] = weights()

    threads = [threading.Thread(target=fit, args=(i,)) for i in range(2)]
    [t.start() for t in threads], [t.join() for t in threads]
    assert all(np.array_equal(r, alone) for r in results)


SCRIPT = """
import os, sys, threading
import numpy as np
import fastbp as fb
rng = np.random.default_rng(0)
X, y = rng.standard_normal((400, 20)).astype("float32"), rng.integers(0, 3, 400)
def weights():
    trainer = fb.Trainer(fb.MLP([20, 64, 64, 3], seed=0), batch_size=64, seed=0, threads=2)
    trainer.fit(X, y, epochs=5)
    return trainer.net.params
alone = weights()
"""


def run(code, **environment):
    """Runs SCRIPT and ``code`` in a fresh process; returns what it prints."""
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT + textwrap.dedent(code)], capture_output=True, text=True, timeout=120,
        env={**os.environ, **environment}, cwd=Path(__file__).resolve().parents[2],
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("layer", ["omp", "workqueue"])
def test_fit_in_a_forked_child_after_fit_in_the_parent(layer):
    if layer == "omp":
        pytest.importorskip("numba.np.ufunc.omppool", reason="no OpenMP library here")
    out = run(
        """
        import numba
        print(numba.threading_layer(), flush=True)
        child = os.fork()
        if child == 0:
            os._exit(0 if np.array_equal(weights(), alone) else 3)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), np.array_equal(weights(), alone))
        """,
        NUMBA_THREADING_LAYER=layer,
    )
    assert out == [layer, "0", "True"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_forked_child_after_the_parents_own_parallel_loop():
    """OpenMP kills such a child, whoever opened the region; and large arenas are not shared."""
    out = run(
        """
        import numba
        @numba.njit(parallel=True)
        def f(a):
            for i in numba.prange(a.size):
                a[i] += 1
        f(np.zeros(1000))
        net = fb.MLP([784, 1024, 10], seed=0)
        before = net.params.copy()
        child = os.fork()
        if child == 0:
            net.weights[0][:] = 7
            os._exit(0 if np.array_equal(weights(), alone) else 3)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), np.array_equal(net.params, before))
        """
    )
    assert out == ["0", "True"]


def test_two_callers_on_workqueue():
    """numba's workqueue aborts the process when two threads open regions at once."""
    out = run(
        """
        results = []
        threads = [threading.Thread(target=lambda: results.append(weights())) for _ in range(3)]
        [t.start() for t in threads], [t.join() for t in threads]
        print(len(results), all(np.array_equal(r, alone) for r in results))
        """,
        NUMBA_THREADING_LAYER="workqueue",
    )
    assert out == ["3", "True"]


@pytest.mark.parametrize(
    "limit", [{"OMP_THREAD_LIMIT": "1"}, {"OMP_DYNAMIC": "true"}, {"OMP_NUM_THREADS": "1"}]
)
def test_fewer_threads_than_promised_do_not_hang(limit):
    """A team that does not gather falls back to one thread, with the same bits."""
    assert run("print(alone.sum())", NUMBA_NUM_THREADS="4", **limit) == [str(weights().sum())]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity here")
def test_affinity_to_one_core():
    core = min(os.sched_getaffinity(0))
    out = run(
        f"""
        os.sched_setaffinity(0, {{{core}}})
        from fastbp.engine.parallel import usable_cores
        trainer = fb.Trainer(fb.MLP([20, 64, 64, 3], seed=0), batch_size=64, seed=0)
        trainer.fit(X, y, epochs=5)
        print(usable_cores(), trainer.num_threads, np.array_equal(trainer.net.params, alone))
        print(np.array_equal(weights(), alone))
        """
    )
    assert out == ["1", "1", "True", "True"]
