"""No kernel reads or writes outside what it is given: every array ends at a page that nobody may touch.

In processes of their own, which such an access would kill. The long form: python
tests/kernels/test_guard_pages.py 2000
"""

import os
import subprocess
import sys

import numpy as np
import pytest

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mprotect through libc")

GUARDED = r'''
import ctypes, mmap, sys
import numpy as np
import fastbp as fb
from fastbp.network import layout

PAGE = mmap.PAGESIZE
libc = ctypes.CDLL(None, use_errno=True)
libc.mprotect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
kept = []

def guarded(size, dtype, front=False):
    """A flat array between two pages without access: it ends, or with front begins, at one of them."""
    dtype = np.dtype(dtype)
    needed = int(size) * dtype.itemsize
    pages = -(-max(needed, 1) // PAGE)
    space = mmap.mmap(-1, (pages + 2) * PAGE)
    whole = np.frombuffer(space, np.uint8)
    for page in (0, pages + 1):
        if libc.mprotect(whole.ctypes.data + page * PAGE, PAGE, 0):
            raise OSError(ctypes.get_errno(), "mprotect")
    kept.append((space, whole))
    at = PAGE if front else (pages + 1) * PAGE - needed
    return whole[at : at + needed].view(dtype)

def arena(size, dtype):
    """As layout.arena, its end as near to the guard as whole cache lines allow; the rest a canary."""
    item = np.dtype(dtype).itemsize
    lines = -(-size * item // layout.LINE) * layout.LINE // item
    found = guarded(lines, dtype)
    found[:] = 0
    return found[:size]

def put(values, front):
    values = np.ascontiguousarray(values)
    place = guarded(values.size, values.dtype, front).reshape(values.shape)
    place[:] = values
    return place

for module in list(sys.modules.values()):
    if getattr(module, "__name__", "").startswith("fastbp.") and hasattr(module, "arena"):
        module.arena = arena
import fastbp.engine.backend, fastbp.engine.many, fastbp.training.many, fastbp.training.objective
for module in list(sys.modules.values()):
    if getattr(module, "__name__", "").startswith("fastbp.") and hasattr(module, "arena"):
        module.arena = arena

seed = int(sys.argv[1])
rng = np.random.default_rng(seed)
for case in range(int(sys.argv[2])):
    front = bool(rng.integers(2))
    sizes = [int(n) for n in rng.choice([1, 2, 3, 5, 8, 15, 16, 17, 31, 33, 64, 65, 130], rng.integers(2, 5))]
    rows, batch = int(rng.integers(2, 300)), int(rng.choice([1, 2, 7, 16, 33, 256, 300]))
    dtype = ["float32", "float64"][rng.integers(2)]
    hidden = len(sizes) - 2
    names = ["relu", "tanh", "gelu", "prelu", "silu", "elu", "sin"]
    acts = [names[i] for i in rng.integers(len(names), size=hidden)]
    norm, drop = ([None, "layer"][rng.integers(2)], float(rng.choice([0, 0.3]))) if hidden else (None, 0.0)
    net = fb.MLP(sizes, acts, seed=case, dtype=dtype, norm=norm, dropout=drop,
                 input_dropout=float(rng.choice([0, 0.2])))
    kind = rng.choice(["f4", "f8", "f2", "u1", "i2", "i8"])
    X = put(np.abs(rng.standard_normal((rows, sizes[0])) * 3).astype(kind), front)
    if sizes[-1] > 1 and rng.integers(2):
        labels = rng.integers(0, sizes[-1], rows).astype(rng.choice(["u1", "i4", "i8"]))
        loss, y = "cross_entropy", put(labels, front)
    else:
        loss, y = "mse", put(rng.standard_normal((rows, sizes[-1])).astype(rng.choice(["f4", "f8"])), front)
    weight = put(rng.random(rows).astype(dtype) + 0.1, front)
    options = [{}, {"clip_norm": 1.0}, {"ema": 0.9}, {"accumulate": 2}, {"max_norm": 1.0}][rng.integers(5)]
    make = lambda: fb.Trainer(net, loss, ["adam", "adagrad", "nadam", "lion"][rng.integers(4)], batch, seed=1,
                              threads=int(rng.choice([1, 2, 3])), **options)
    print("case", case, sizes, acts, rows, batch, dtype, kind, loss, options, front, flush=True)
    trainer = make()
    trainer.fit(X, y, 2, sample_weight=weight, verbose=0)
    trainer.evaluate(X, y, weight)
    trainer.predict(X), trainer.predict(X[:1]), trainer.forward(X[: rows // 2 + 1])
    trainer.gradients(X, y)
    trainer.train_on_batch(X[: batch], y[: batch])
    if hidden:
        trainer.activations(X)
    taken = put(rng.integers(0, rows, 50).astype(np.int32), front)
    fb.fit_many([make()], X, y, rows=[taken], validation_rows=[taken[:9]], epochs=1, sample_weight=weight)
    kept.clear()
print("done")
'''


def run(seed, cases):
    return subprocess.run(
        [sys.executable, "-c", GUARDED, str(seed), str(cases)],
        capture_output=True,
        text=True,
        timeout=600,
        env={"NUMBA_NUM_THREADS": "4", **os.environ},
    )


def test_guards_hold(rng):
    """Random networks, data and options; a wrong address kills the process, and says in which case."""
    found = run(int(rng.integers(2**31)), 25)
    assert found.returncode == 0 and found.stdout.endswith("done\n"), (
        found.stdout[-500:] + found.stderr[-2000:]
    )


def test_a_guard_kills():
    """What the test above is worth: a read one number behind an array ends the process."""
    code = GUARDED.split("for module in list")[0] + "put(np.ones(8, np.float32), False)\n"
    code += "a = put(np.ones(8, np.float32), False)\nctypes.string_at(a.ctypes.data + a.nbytes, 1)\n"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=120)
    assert found.returncode < 0


if __name__ == "__main__":
    random = np.random.default_rng()
    for _ in range(-(-int(sys.argv[1]) // 100)):
        seed = int(random.integers(2**31))
        found = run(seed, 100)
        print(f"seed {seed}: exit {found.returncode}", flush=True)
        if found.returncode:
            sys.exit(found.stdout[-500:] + found.stderr[-2000:])
