"""Nothing is allocated per step, nothing of the data is copied whole: measured as resident memory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")

COMMON = """
import numpy as np, resource
import fastbp as fb

def resident():
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * resource.getpagesize()

def trainer(sizes, batch):
    return fb.Trainer(fb.MLP(sizes, seed=0), batch_size=batch, seed=0, threads=1)

rng = np.random.default_rng(0)
trainer([4, 8, 3], 8).fit(rng.standard_normal((64, 4)), rng.integers(0, 3, 64))  # code, libraries
"""


def run(code):
    """Runs COMMON and ``code`` in a fresh process; returns the numbers that it prints."""
    result = subprocess.run(
        [sys.executable, "-c", COMMON + code], cwd=ROOT, capture_output=True, text=True, timeout=120,
        env={**os.environ},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return [float(word) for word in result.stdout.split()]


def test_ten_thousand_steps_grow_nothing():
    before, after, steps = run(
        """
X, y = rng.standard_normal((1600, 20)), rng.integers(0, 3, 1600)
t = trainer([20, 32, 3], 16)
t.fit(X, y, epochs=10, validation_data=(X, y))
before = resident()
t.fit(X, y, epochs=100, validation_data=(X, y))
print(before, resident(), t.steps)
"""
    )
    assert steps == 11_000
    assert after - before < 500_000  # a float per step would be 80 KB, an array of a batch 25 MB


def test_peak_is_data_parameters_and_one_batch():
    """uint8 stays uint8: a float copy of the data alone would take three times what is allowed."""
    grown, data, parameters, activations = run(
        """
X, y = rng.integers(0, 256, (40_000, 784), dtype=np.uint8), rng.integers(0, 10, 40_000)
before = resident()
sizes, batch = [784, 1024, 1024, 10], 512
t = trainer(sizes, batch)
t.fit(X, y)
t.evaluate(X, y)
with open("/proc/self/status") as f:
    peak = next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmHWM"))
parameters = 4 * 3 * t.net.num_parameters
activations = 4 * batch * (sizes[0] + 2 * sum(sizes[1:]))  # and their gradients
print(peak - before, X.nbytes, parameters, activations)
"""
    )
    assert grown < 1.2 * (parameters + activations) + 0.2 * data


def test_a_memory_map_larger_than_what_may_be_allocated(tmp_path):
    """1.2 GB on disk (a sparse file), 0.5 GB of memory allowed: rows are read where they are."""
    limited = f"""
path = {str(tmp_path / "x.npy")!r}
X = np.lib.format.open_memmap(path, "w+", np.uint8, (600_000, 2048))
X[:1000] = rng.integers(0, 256, (1000, 2048), dtype=np.uint8)
del X
X = np.load(path, mmap_mode="r")
y = np.zeros(len(X), np.uint8)
y[:1000] = X[:1000, 0] > 127
resource.setrlimit(resource.RLIMIT_DATA, (1 << 29, 1 << 29))
t = trainer([2048, 2], 4096)
history = t.fit(X, y)
print(t.steps, X.nbytes)
"""
    steps, size = run(limited)
    assert steps == -(-600_000 // 4096) and size > 1.2e9


def test_a_mixture_of_everything_keeps_its_size():
    """New networks, files, callbacks, streams, estimators; the long form is tests/support/soak.py."""
    before, after = run(
        """
import sys, tempfile
sys.path.insert(0, "tests/support")
import soak
with tempfile.TemporaryDirectory() as folder:
    mixture = soak.Mixture(folder)
    for k in range(105):
        mixture.once()
        if k in (44, 104):
            print(soak.resident())
"""
    )
    assert after - before < 4 << 20  # seen: 1.4 MB; one trainer more that is kept each round makes it 14.6
