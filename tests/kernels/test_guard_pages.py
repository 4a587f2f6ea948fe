"""No kernel reads or writes outside what it is given: every array ends at a page that nobody may touch.

What lies between it and the pages is a canary: NaN, which would show in a result if it were read, and has to
be there in the end. Inside an arena kernels may write the padding of rows; that of parameters and slots has to
stay 0. Data lie in pages that nobody may write. In processes of their own, which a wrong access would kill.
The long form: python tests/kernels/test_guard_pages.py 2000
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
from scipy import sparse

PAGE, CANARY = mmap.PAGESIZE, 0xFF  # of such bytes floats are NaN, and whole numbers -1
libc = ctypes.CDLL(None, use_errno=True)
libc.mprotect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
kept = []

def protect(address, size, what):
    if libc.mprotect(address, size, what):
        raise OSError(ctypes.get_errno(), "mprotect")

def guarded(size, dtype, front=False, used=None):
    """A flat array between two pages without access: it ends, or with front begins, at one of them.

    used : so many of its elements are no canary.
    """
    dtype = np.dtype(dtype)
    needed = int(size) * dtype.itemsize
    pages = -(-max(needed, 1) // PAGE)
    space = mmap.mmap(-1, (pages + 2) * PAGE)
    whole = np.frombuffer(space, np.uint8)
    inner = whole[PAGE : (pages + 1) * PAGE]
    inner[:] = CANARY
    for page in (0, pages + 1):
        protect(whole.ctypes.data + page * PAGE, PAGE, 0)
    at = 0 if front else len(inner) - needed
    end = at + (needed if used is None else int(used) * dtype.itemsize)
    kept.append((space, whole, inner[:at], inner[end:]))
    return inner[at : at + needed].view(dtype)

def intact():
    """Nobody wrote to a canary."""
    for _, _, *canaries in kept:
        for canary in canaries:
            assert (canary == CANARY).all(), f"a canary was written to, {(canary != CANARY).nonzero()[0]}"

def arena(size, dtype):
    """As layout.arena, its end as near to the guard as whole cache lines allow; the rest a canary."""
    item = np.dtype(dtype).itemsize
    lines = -(-size * item // layout.LINE) * layout.LINE // item
    found = guarded(lines, dtype, used=size)[:size]
    found[:] = 0
    return found

def put(values, front):
    """A copy that nobody may write to."""
    values = np.ascontiguousarray(values)
    place = guarded(values.size, values.dtype, front).reshape(values.shape)
    place[:] = values
    whole = kept[-1][1]
    protect(whole.ctypes.data + PAGE, len(whole) - 2 * PAGE, mmap.PROT_READ)
    return place

class Guarded:
    """numpy, whose new arrays lie between guards: what the kernels write predictions and counts to."""

    def __getattr__(self, name):
        return getattr(np, name)

    def empty(self, shape, dtype=float):
        return guarded(np.prod(shape, dtype=int), dtype, bool(len(kept) % 2)).reshape(shape)

    def zeros(self, shape, dtype=float):
        found = self.empty(shape, dtype)
        found[...] = 0
        return found

import fastbp.engine.backend, fastbp.engine.many, fastbp.training.many, fastbp.training.objective
import fastbp.training.backwards, fastbp.data.sources, fastbp.engine.plan, fastbp.training.single
from fastbp.preparation import Preparation
from fastbp.training import backwards, single, trainer
for module in list(sys.modules.values()):
    if getattr(module, "__name__", "").startswith("fastbp.") and hasattr(module, "arena"):
        module.arena = arena
for module in (fastbp.engine.backend, fastbp.engine.many, fastbp.engine.plan, fastbp.data.sources, backwards,
               single, trainer, sys.modules["fastbp.preparation"]):
    module.np = Guarded()

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
    for _ in range(3):  # the second and third take the short way
        trainer.train_on_batch(X[: batch], y[: batch])
    if hidden:
        trainer.activations(X)
    taken = put(rng.integers(0, rows, 50).astype(np.int32), front)
    fb.fit_many([make()], X, y, rows=[taken], validation_rows=[taken[:9]], epochs=1, sample_weight=weight)
    intact()
    # streams, backwards, Monte Carlo dropout
    trainer.fit(lambda: ((X[k : k + 40], y[k : k + 40], weight[k : k + 40]) for k in range(0, rows, 40)),
                verbose=0) if trainer.accumulate == 1 else None
    g = put(rng.standard_normal((rows, sizes[-1])), front)
    trainer.gradients_from(X, g), trainer.input_gradients(X, g), trainer.input_gradients(X)
    if drop or net.input_dropout:
        trainer.predict(X, samples=3)
    # rows that lie in parts, and sparse ones
    parts = fb.data.Shards([X[: rows // 3], X[rows // 3 :]])
    trainer.fit(parts, y, 1, sample_weight=weight, verbose=0), trainer.predict(parts)
    if kind != "f2":  # SciPy has no such matrices
        filled = sparse.csr_array(X * (rng.random(X.shape) < 0.4))
        parts_of_it = [put(a, front) for a in (filled.data, filled.indices, filled.indptr)]
        thin = sparse.csr_array(tuple(parts_of_it), shape=X.shape)
        trainer.fit(thin, y, 1, sample_weight=weight, verbose=0), trainer.predict(thin)
    # raw data and what a preparation makes of them
    raw = put(X.astype(float) * 10 + 1000, front)
    prepared = make()
    prepared.preparation = Preparation.fit(raw, None if loss == "cross_entropy" else y)
    if prepared.preparation.inputs == sizes[0]:  # a column of one value is left out
        prepared.fit(raw, y, 1, sample_weight=weight, verbose=0)
        prepared.predict(raw), prepared.evaluate(raw, y, weight), prepared.input_gradients(raw)
    intact()
    for flat in np.concatenate([net.params, trainer.slots]).reshape(-1, net.params.size):
        for view in net.named_views(flat).values():
            view[:] = 0
        assert not flat.any(), "padding was written to"
    del trainer, prepared, parts
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


@pytest.mark.parametrize("what,fails", [
    ("ctypes.string_at(a.ctypes.data + a.nbytes, 1)", "killed"),  # a read behind it
    ("ctypes.memset(put(np.ones(8, np.float32), False).ctypes.data, 0, 1)", "killed"),  # a write to data
    ("ctypes.memset(a.ctypes.data - 1, 0, 1); intact()", "raises"),  # a write before it
    ("ctypes.memset(arena(3, 'f4').ctypes.data + 12, 0, 1); intact()", "raises"),  # behind an arena's numbers
    ("intact()", "nothing"),
])  # fmt: skip
def test_a_guard_kills(what, fails):
    """What the test above is worth: a read one number behind an array ends the process."""
    code = GUARDED.split("import fastbp.engine")[0] + f"a = guarded(8, np.float32); a[:] = 1\n{what}\n"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert {"killed": found.returncode < 0, "raises": found.returncode == 1,
            "nothing": found.returncode == 0}[fails], found.stderr  # fmt: skip


if __name__ == "__main__":
    random = np.random.default_rng()
    for _ in range(-(-int(sys.argv[1]) // 100)):
        seed = int(random.integers(2**31))
        found = run(seed, 100)
        print(f"seed {seed}: exit {found.returncode}", flush=True)
        if found.returncode:
            sys.exit(found.stdout[-500:] + found.stderr[-2000:])
