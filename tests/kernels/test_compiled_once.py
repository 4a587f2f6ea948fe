"""One compiled program for all networks; from the disk in the next process; anew after an edit."""

import importlib
import importlib.util
import itertools
import json
import os
import pkgutil
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from numba.core import event
from numba.core.dispatcher import Dispatcher

import fastbp as fb
import fastbp.kernels.cpu as cpu

ROOT = Path(__file__).resolve().parents[2]


class Compiled(event.Listener):
    """The names of the functions that numba really compiled, not those that it read from the disk."""

    def __init__(self):
        self.names = []

    def on_start(self, event):
        self.names.append(event.data["dispatcher"].py_func.__name__)

    def on_end(self, event):
        pass


def dispatchers():
    """Every compiled function that the CPU's kernels define or import."""
    found = {}
    for info in pkgutil.iter_modules(cpu.__path__, cpu.__name__ + "."):
        module = importlib.import_module(info.name)
        found |= {
            f"{info.name}.{name}": value
            for name, value in vars(module).items()
            if isinstance(value, Dispatcher)
        }
    return found


def signatures():
    return {name: len(dispatcher.overloads) for name, dispatcher in dispatchers().items()}


# sizes, activation, loss, optimizer, batch size, dtype of X, threads
FITS = [
    ([5, 3], "identity", "mse", fb.SGD(0.01), 1, "float64", 1),
    ([9, 70, 2], "tanh", "cross_entropy", fb.Adam(), 64, "uint8", 2),
    ([31, 8, 9, 33, 4], "gelu", "bce_with_logits", fb.SGD(0.01, momentum=0.9, nesterov=True), 7, "int64", 4),
    ([16, 100, 100, 100, 100, 1], "silu", "huber", fb.AdamW(), 33, "float32", 2),
    ([1, 1, 1], "elu", "mae", fb.SGD(0.01, momentum=0.9, dampening=0.1), 5, "float64", 1),
    ([64, 300, 10], "leaky_relu", "cross_entropy", fb.Adam(weight_decay=0.1), 128, "uint8", 4),
    ([12, 7, 4], "relu", "gaussian_nll", fb.Adam(), 10, "float32", 2),
    ([3, 70], "relu", fb.losses.Quantile([0.1, 0.9]), fb.Adam(), 10, "float32", 1),
    ([3, 7, 5], "relu", fb.losses.BCEWithLogits([1, 2, 3, 4, 5]), fb.Adam(), 10, "float32", 1),
    ([3, 7, 1], "relu", fb.losses.Huber(0.1), fb.Adam(), 10, "float32", 1),
    ([3, 7, 4], "relu", "poisson_nll", fb.Adam(), 10, "float32", 1),
    ([12, 7, 3], ["sigmoid"], "mse", fb.SGD(0.01, weight_decay=0.1), 100, "int64", 1),
    ([7, 9, 2], "relu", "mse", fb.Lion(weight_decay=0.1), 9, "float32", 2),
    ([7, 9, 2], "relu", "mse", fb.RMSprop(momentum=0.9, centered=True), 9, "float32", 1),
]
# what else is data of the program: each with NAdam on [4, 8, 3]
OPTIONS = [
    {"schedule": "cosine", "ema": 0.9, "clip_value": 1.0, "l1": 0.1},
    {"schedule": lambda step: 0.1, "accumulate": 3, "lr_factors": [1, 2], "decay_bias": False},
    {"schedule": fb.schedules.Plateau(), "max_norm": 1.0, "clip_layer_norm": 1.0},
]
# the same with what a network may have besides
LAYERS = [
    {"dropout": 0.3, "input_dropout": 0.1},
    {"norm": "layer", "residual": [False, True, False]},
    {"norm": "batch", "embeddings": {2: (9, 4), 5: (20, 17)}},
    {"activation": ["prelu", "gelu", "prelu"], "norm": [None, "layer", "layer"], "dropout": 0.1},
]


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_after_one_fit_nothing_compiles(rng, precision):
    first = fb.Trainer(fb.MLP([4, 6, 2], seed=0, dtype=precision), threads=1)
    first.fit(rng.standard_normal((20, 4)).astype("float32"), rng.integers(0, 2, 20))
    before, compiled = signatures(), Compiled()
    assert before[f"{cpu.__name__}.program.run"] >= 1 and before[f"{cpu.__name__}.program.leaves"] >= 1
    event.register("numba:compile", compiled)
    try:
        for sizes, activation, loss, optimizer, batch_size, dtype, threads in FITS:
            rows, outputs = 2 * batch_size + 3, sizes[-1]
            X = rng.integers(0, 9, (rows, sizes[0])).astype(dtype)
            if loss == "cross_entropy":
                y = rng.integers(0, outputs, rows)
            else:
                width = {"gaussian_nll": 2, "quantile": 35}.get(getattr(loss, "name", loss), outputs)
                y = rng.integers(0, 2, (rows, width)).astype(dtype)
            net = fb.MLP(sizes, activation, seed=0, dtype=precision)
            trainer = fb.Trainer(net, loss, optimizer, batch_size, threads=threads)
            trainer.fit(X, y, epochs=2, validation_data=(X, y), sample_weight=rng.uniform(1, 2, rows))
            trainer.evaluate(X, y), trainer.predict(X), trainer.forward(X), trainer.gradients(X, y)
        for options, clip_norm in itertools.product(LAYERS, (None, 1.0)):
            X, y = rng.integers(0, 9, (50, 6)), rng.integers(0, 3, 50)
            net = fb.MLP([6, 10, 10, 7, 3], **{"activation": "gelu"} | options, seed=0, dtype=precision)
            trainer = fb.Trainer(net, batch_size=20, threads=2, clip_norm=clip_norm)
            trainer.fit(X, y, epochs=2)
            trainer.evaluate(X, y), trainer.predict(X), trainer.gradients(X, y)
        for options in OPTIONS:
            net = fb.MLP([4, 8, 3], seed=0, dtype=precision)
            trainer = fb.Trainer(net, optimizer=fb.NAdam(weight_decay=0.1), **options)
            trainer.fit(rng.standard_normal((200, 4)), rng.integers(0, 3, 200), epochs=2)
        soft = rng.dirichlet(np.ones(3), 20)
        clipped = fb.Trainer(fb.MLP([4, 3], seed=0, dtype=precision), clip_norm=0.1)
        clipped.fit(np.asfortranarray(rng.standard_normal((20, 4))), soft, shuffle=False)
        pieces = rng.integers(0, 9, (20, 4)).astype("int16")
        clipped.fit(fb.data.shards([pieces[:3], pieces[3:]]), soft)
        sparse = pytest.importorskip("scipy.sparse")
        clipped.fit(sparse.csr_matrix(pieces), soft), clipped.predict(sparse.csr_matrix(pieces))
        frozen = fb.Trainer(fb.MLP([4, 5, 3], seed=0, dtype=precision), clip_norm=0.1)
        frozen.net.freeze(0)
        for hook in (None, lambda pairs: None):
            frozen.gradient_hook = hook
            frozen.fit(rng.standard_normal((20, 4)), soft, seconds=0.01, validation_split=0.5, metrics="auc")
            frozen.train_on_batch(np.ones((3, 4)), [0, 1, 2]), frozen.partial_fit(np.ones((3, 4)), [0, 1, 2])
        frozen.diagnose(rng.standard_normal((20, 4)), soft), frozen.activations(np.ones((3, 4)))
    finally:
        event.unregister("numba:compile", compiled)
    assert compiled.names == []
    assert signatures() == before


# --- other processes

# Prints as JSON: what was compiled, what came from the disk, what came out. With the argument leaves: of
# these only; with backwards: after importing the modules of the kernels in another order.
PROBE = """
import hashlib, importlib, json, pkgutil, sys
from numba.core import event
compiled = []
class Listener(event.Listener):
    def on_start(self, event):
        compiled.append(event.data["dispatcher"].py_func.__name__)
    def on_end(self, event):
        pass
event.register("numba:compile", Listener())
import numpy as np
import fastbp as fb
imported = list(compiled)
from fastbp.kernels import codes, cpu
if "backwards" in sys.argv:
    for info in reversed(list(pkgutil.iter_modules(cpu.__path__, cpu.__name__ + "."))):
        if not info.name.endswith(".program"):
            importlib.import_module(info.name)
from fastbp.kernels.cpu import program
start = net = None
if "alone" in sys.argv:
    sys.executable = ""
if "leaves" in sys.argv:
    program.leaves(np.empty(len(program.LEAVES), np.int64), np.empty(0, "float32"))
else:
    X, y = np.random.default_rng(0).standard_normal((50, 5)), np.arange(50) % 3
    net = fb.MLP([5, 8, 3], seed=0)
    trainer = fb.Trainer(net, batch_size=16, seed=0)
    start = trainer.forward(X).tolist()
    trainer.fit(X, y, epochs=2)
stats = {"run": program.run.stats, "leaves": program.leaves.stats}
print(json.dumps({
    "fastbp": fb.__file__, "kernels": codes.__file__, "imported": imported, "compiled": compiled,
    "hits": {k: sum(s.cache_hits.values()) for k, s in stats.items()},
    "misses": {k: sum(s.cache_misses.values()) for k, s in stats.items()},
    "places": [s.cache_path for s in stats.values()],
    "start": start, "bits": net and hashlib.sha256(net.params.tobytes()).hexdigest(),
}))
"""


class Checkout:
    """The sources as a plain checkout in a folder, and beside it a cache of its own."""

    def __init__(self, folder):
        self.root, self.cache = folder / "checkout", folder / "cache"
        for package in ("fastbp", "kernels"):
            shutil.copytree(ROOT / package, self.root / package, symlinks=True,
                            ignore=shutil.ignore_patterns("__pycache__"))  # fmt: skip
        (folder / "probe.py").write_text(PROBE)
        self.elsewhere = folder / "elsewhere"  # another fastbp lies where it runs
        (self.elsewhere / "fastbp").mkdir(parents=True)
        (self.elsewhere / "fastbp" / "__init__.py").write_text("raise ImportError('the wrong one')")

    def start(self, *arguments, **environment):
        """A process that runs PROBE; ``end`` it."""
        variables = os.environ | {"NUMBA_CACHE_DIR": str(self.cache), "PYTHONPATH": str(self.root)}
        return subprocess.Popen(
            [sys.executable, self.root.parent / "probe.py", *arguments],
            cwd=self.elsewhere,
            env=variables | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self, process):
        output, error = process.communicate(timeout=300)
        assert process.returncode == 0, f"{process.args[2:]}: exit code {process.returncode}\n{error}"
        result = json.loads(output.splitlines()[-1])
        assert Path(result["fastbp"]).is_relative_to(self.root)
        assert Path(result["kernels"]).resolve().parent == (self.root / "kernels").resolve()
        return result

    def run(self, *arguments):
        return self.end(self.start(*arguments))

    def append(self, path, text):
        with open(self.root / "kernels" / path, "a") as file:
            file.write(text)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """What fresh processes say of checkouts, two at a time where they compile everything: some 15 s each."""
    checkout, blocked = (Checkout(tmp_path_factory.mktemp(name)) for name in ("compiled", "blocked"))
    # nowhere to write: NUMBA_CACHE_DIR, the folder beside the sources, the user's, all below plain files
    (file := blocked.root.parent / "file").write_text("")
    (blocked.root / "kernels" / "cpu" / "__pycache__").write_text("")
    nowhere = {"NUMBA_CACHE_DIR": str(file / "cache"), "XDG_CACHE_HOME": str(file), "HOME": str(file)}
    processes = checkout.start(), blocked.start(**nowhere)
    time.sleep(3)
    waiting = checkout.start()
    result = {"first": checkout.end(processes[0]), "uncached": blocked.end(processes[1])}
    result["waiting"] = checkout.end(waiting)
    result["second"], result["backwards"] = checkout.run(), checkout.run("backwards")
    checkout.append("formulas.py", "\nACTIVATION[codes.RELU] = lambda m, z: z * 0.0\n")
    changed = checkout.start("alone")
    blocked.cache = checkout.cache  # of the sources before this edit
    blocked.append("cpu/losses.py", "\n# a comment\n")
    result["commented"] = blocked.run("leaves")
    result["changed"] = checkout.end(changed)
    return result


HELPED = len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count())) > 1


def assert_compiled(result):
    assert {"run", "leaves", "worker"} <= set(result["compiled"])
    assert result["hits"] == {"run": 0, "leaves": 0}


def test_the_first_process_compiles_and_keeps(runs):
    """With a second core another process compiles worker, and the first one loads it."""
    if HELPED:
        assert {"run", "leaves"} <= set(runs["first"]["compiled"])
        assert "worker" not in runs["first"]["compiled"]
    else:
        assert_compiled(runs["first"])
    assert runs["first"]["misses"] == {"run": 1, "leaves": 1}


@pytest.mark.parametrize("which", ["waiting", "second", "backwards"])
def test_the_next_process_loads_everything(runs, which):
    """Also one that came while the first one compiled, and one that imported the kernels in another order:
    what is bound to what must not depend on it."""
    first, second = runs["first"], runs[which]
    assert second["compiled"] == []
    assert second["hits"] == {"run": 1, "leaves": 1}
    assert second["misses"] == {"run": 0, "leaves": 0}
    assert second["places"] == first["places"] and None not in first["places"]
    assert second["bits"] == first["bits"]


def test_an_edit_of_a_kernel_compiles_anew(runs):
    """Of files that only helpers come from: numba alone looks at the file of the cached function."""
    first, commented, changed = runs["first"], runs["commented"], runs["changed"]
    assert commented["compiled"] == ["leaves"] and commented["hits"]["leaves"] == 0
    assert_compiled(changed)
    # hidden units are all 0 now: the outputs are the biases, which start at 0
    assert np.any(first["start"]) and not np.any(changed["start"])


def test_where_nothing_can_be_written_it_works_uncached(runs):
    uncached = runs["uncached"]
    assert_compiled(uncached)
    assert uncached["places"] == [None, None]
    assert uncached["bits"] == runs["first"]["bits"]


def test_the_digest_sees_every_kernel_file(tmp_path):
    """Edited, added, renamed or removed."""
    kernels = tmp_path / "kernels"
    shutil.copytree(ROOT / "kernels", kernels, ignore=shutil.ignore_patterns("__pycache__"))
    spec = importlib.util.spec_from_file_location("fastbp.kernels.jit_copy", kernels / "jit.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def digest():
        module.source_digest.cache_clear()
        return module.source_digest()

    seen = [digest()]
    assert digest() == seen[0]
    files = sorted(p for p in kernels.rglob("*.py") if p.parent.name not in ("cuda", "reference"))
    assert len(files) >= 10
    for path in files:
        path.write_text(path.read_text() + "\n")
        seen.append(digest())
    (kernels / "cpu" / "new.py").write_text("")
    seen.append(digest())
    (kernels / "cpu" / "new.py").rename(kernels / "cpu" / "newer.py")
    seen.append(digest())
    assert len(set(seen)) == len(seen)
    (kernels / "cpu" / "newer.py").unlink()
    assert digest() == seen[-3]


# --- importing


def run(code):
    environment = os.environ | {"PYTHONPATH": str(Path(fb.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_compiles_nothing(runs):
    """Nothing at import, and no package but numpy (and numba, were it needed)."""
    assert runs["first"]["imported"] == []
    before, after = run(
        "import sys; before = set(sys.modules); import fastbp; print(*before); print(*sys.modules)"
    ).splitlines()
    new = set(after.split()) - set(before.split())
    packages = {name.partition(".")[0] for name in new} - set(sys.stdlib_module_names)
    assert "fastbp" in packages and packages <= {"fastbp", "numpy", "numba", "llvmlite"}
    assert not any(name.startswith(("fastbp.kernels.cpu", "fastbp.kernels.reference")) for name in new)


def test_importing_costs_at_most_150_ms_beyond_numba():
    """Of a core's time, the least of several fresh processes: a busy machine does not fail it."""
    code = (
        "import time, numba; start = time.process_time(); import fastbp; print(time.process_time() - start)"
    )
    assert min(float(run(code)) for _ in range(9)) < 0.15
