"""Damaged model files, each used in a process of its own limits: python tests/support/damage.py --count 8000

Bits flipped, files cut off, other bytes; and whole files whose configuration or arrays say odd things:
numbers that are huge, negative, NaN, of other types, keys that are gone. A file is refused by ValueError, or
loads, and then all that is done with it works or raises one of ALLOWED. Anything else is a finding: another
error, a signal, more than MEMORY bytes, more than SECONDS.
"""

import argparse
import collections
import copy
import importlib.util
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import warnings
from pathlib import Path

if __name__ == "__main__":  # as a script: the checkout that it lies in
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

import fastbp as fb
from fastbp.preparation import Preparation

MEMORY, SECONDS = 3 << 30, 60  # of a process; of a file
ALLOWED = (ValueError, TypeError, FloatingPointError)
ODD = (
    None, True, False, 0, 1, -1, 2, 3, 7, 2**31 - 1, 2**31, 2**40, 2**60, 2**63 - 1, 2**63, 2**64, -(2**63),
    10**30, 0.0, -0.0, 1.0, -1.0, 0.5, 0.999, 1e-300, 1e300, -1e300, float("nan"), float("inf"),
    float("-inf"), "", "relu", "prelu", "mse", "cross_entropy", "gaussian_nll", "sgd", "adam", "lbfgs",
    "cosine", "float64",
    "batch", "layer", "0", "nan", "x" * 5000, [], [0], [1], [[]], [None], ["a", "a"], [1e308] * 3, {},
    {"name": "sgd"}, {"0": ["a"]}, [2**62, 2**62],
)  # fmt: skip


def models(folder):
    """Paths of good files of several kinds."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 6)).astype("f4")
    X[:, 4], X[:, 5] = rng.integers(0, 3, 40), rng.integers(0, 5, 40)
    y = rng.standard_normal((40, 2))
    made = {
        "plain": (fb.Trainer(fb.MLP([6, 8, 2], seed=0), "mse", seed=0), None),
        "labels": (fb.Trainer(fb.MLP([6, 8, 8, 3], "prelu", residual=True, dropout=0.1, seed=0),
                              fb.losses.CrossEntropy(class_weight=[1, 2, 3]), fb.NAdam(), schedule="plateau",
                              clip_norm=1.0, accumulate=2, lr_factors=[1, 0, 1], seed=0), None),
        "rich": (fb.Trainer(fb.MLP([6, 8, 8, 2], ["gelu", "tanh"], norm=["batch", "layer"], seed=0,
                                   embeddings={4: (3, 2), 5: (5, 4)}, dtype="float64"), "gaussian_nll",
                            fb.RMSprop(momentum=0.9, centered=True), batch_size=16, ema=0.9, seed=0,
                            schedule=fb.schedules.Cosine(warmup=3), max_norm=2.0, l1=1e-3), None),
        "prepared": (fb.Trainer(fb.MLP([6, 8, 2], seed=0), "mse", fb.SGD(0.01, momentum=0.9), seed=0),
                     Preparation.fit(X.astype(float), y, names=list("abcdef"), target="y")),
    }  # fmt: skip
    for name, (trainer, preparation) in made.items():
        trainer.preparation = preparation
        labels = rng.integers(0, 3, 40) if name == "labels" else y[:, :1] if name == "rich" else y
        trainer.fit(X, labels, verbose=0)
        trainer.save(folder / f"{name}.good")
        yield folder / f"{name}.good"
    ensemble = fb.Ensemble(
        [fb.Trainer(fb.MLP([6, w, 2], norm="batch", seed=w), "mse", seed=0) for w in (3, 5)]
    )
    ensemble.fit(X, y, verbose=0)
    ensemble.save(folder / "ensemble.good")
    yield folder / "ensemble.good"
    if importlib.util.find_spec("sklearn"):
        from fastbp.sklearn import MLPClassifier

        estimator = MLPClassifier((8,), max_iter=2, embeddings={5: (5, 2)}, norm="layer", random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its two epochs
            labels = np.array(["a", "b", "c"])[np.arange(40) % 3]
            estimator.fit(X, labels)
            several = MLPClassifier((4,), max_iter=2, n_ensemble=2, random_state=0).fit(X, labels)
        estimator.save(folder / "estimator.good")
        several.save(folder / "estimators.good")
        yield from (folder / "estimator.good", folder / "estimators.good")


def parts(path):
    """(configuration, arrays) of a good file."""
    from safetensors import safe_open
    from safetensors.numpy import load_file

    with safe_open(path, "numpy") as file:
        config = json.loads(file.metadata()["fastbp"])
    del config["sha256"]
    return config, load_file(path)


def mutated(chance, good):
    """The bytes of one damaged file."""
    content = bytearray(good["bytes"])
    kind = chance.choice(
        ["bits", "cut", "splice", "config", "config", "config", "config", "arrays", "arrays"]
    )
    if kind in ("bits", "cut", "splice"):
        if chance.random() < 0.5:  # without a checksum, as old files are
            content = bytearray(good["old"])
        place = chance.randrange(len(content))
        if kind == "bits":
            for _ in range(chance.choice([1, 1, 2, 8])):
                content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        elif kind == "cut":
            del content[place : place + chance.choice([1, 8, 10**6])]
        else:
            content[place : place + chance.randrange(1, 64)] = chance.randbytes(chance.randrange(1, 64))
        return bytes(content)
    config, tensors = copy.deepcopy(good["config"]), dict(good["tensors"])
    for _ in range(chance.choice([1, 1, 1, 2, 4])):
        (edit if kind == "config" else change)(chance, config if kind == "config" else tensors)
    return whole(config, tensors)


def whole(config, tensors):
    from safetensors.numpy import save

    return save(tensors, {"fastbp": json.dumps(config)})


def edit(chance, config):
    """Change one value somewhere in a tree of JSON, remove it, or add one."""
    place = config
    while True:
        if not place:
            return
        key = chance.choice(list(place)) if isinstance(place, dict) else chance.randrange(len(place))
        if isinstance(place[key], (dict, list)) and place[key] and chance.random() < 0.8:
            place = place[key]
            continue
        what = chance.random()
        if what < 0.1 and key != "format":
            del place[key]
        elif what < 0.2 and isinstance(place, list):
            place.insert(key, copy.deepcopy(place[key]))
        elif what < 0.4 and isinstance(place[key], (int, float)) and not isinstance(place[key], bool):
            place[key] = chance.choice([place[key] + 1, -place[key], place[key] * 10**6, float(place[key])])
        else:
            place[key] = copy.deepcopy(chance.choice(ODD))
        return


def change(chance, tensors):
    """Change one array: its numbers, type, shape or name; remove it, or add one."""
    name = chance.choice(list(tensors))
    array, what = tensors[name].copy(), chance.randrange(7)
    if what < 3:
        with np.errstate(invalid="ignore", over="ignore"):
            if what == 2:
                array = array.astype(chance.choice(["f2", "f4", "f8", "i4", "i8", "u1", "?"]))
            odd = chance.choice([np.nan, np.inf, 0, 1e10, 1e30, -1e38, 3e38, 1e-45])
            places = slice(None) if what == 1 else slice(0, chance.randrange(2))
            array.reshape(-1)[places] = np.array(odd).astype(array.dtype)
    elif what == 3:
        array = array.reshape(chance.choice([(-1,), (1, -1), (-1, 1), (*array.shape, 1)]))
    elif what == 4:
        array = np.zeros(chance.choice([0, 1, array.size + 1, (0, 5), 10**6]), array.dtype)
    elif what == 5:
        del tensors[name]
        name = chance.choice(
            [f"{name}1", "weights.9", "preparation.mean", "slot0.weights.0", "preparation.x", ""]
        )
    else:
        del tensors[name]
        return
    tensors[name] = array


# --- the process that uses files


def use(path):
    """Load a file and do everything with it; what became of it, in a word. Other errors are findings."""
    try:
        if "estimator" in Path(path).name:
            return use_estimator(path)
        if "ensemble" in Path(path).name:
            return use_ensemble(fb.Ensemble.load(path, device="cpu", threads=1))
        trainer = fb.load(path, device="cpu", threads=1)
    except ValueError:
        return "refused"
    rng, inputs = np.random.default_rng(0), trainer.net.sizes[0]
    if trainer.preparation is not None:
        inputs = trainer.preparation.columns
    X = rng.integers(0, 2, (8, inputs)).astype("f4")
    outputs = trainer.net.sizes[-1]
    y = rng.integers(0, 2, 8) if trainer.loss.name in ("cross_entropy", "hinge") else np.ones((8, outputs))
    if trainer.loss.name == "gaussian_nll":
        y = y[:, : outputs // 2]
    with tempfile.TemporaryDirectory() as folder:
        return tried(
            lambda: trainer.predict(X), lambda: trainer.evaluate(X, y), lambda: trainer.gradients(X, y),
            lambda: trainer.partial_fit(X, y), lambda: trainer.train_on_batch(X, y),
            lambda: trainer.fit(X, y, epochs=2, verbose=0), lambda: trainer.to_c(f"{folder}/m.c"),
            lambda: trainer.save(f"{folder}/m"), lambda: fb.load(f"{folder}/m", device="cpu"),
        )  # fmt: skip


def use_ensemble(ensemble):
    """The same for an ensemble."""
    net = ensemble.trainers[0].net
    X = np.random.default_rng(0).integers(0, 2, (8, net.sizes[0])).astype("f4")
    y = np.ones((8, net.sizes[-1]))
    with tempfile.TemporaryDirectory() as folder:
        return tried(
            lambda: ensemble.predict(X), lambda: ensemble.evaluate(X, y), lambda: ensemble.disagreement(X),
            lambda: ensemble.fit(X, y, epochs=2, verbose=0), lambda: ensemble.to_c(f"{folder}/m.c"),
            lambda: ensemble.save(f"{folder}/m"), lambda: fb.Ensemble.load(f"{folder}/m", device="cpu"),
        )  # fmt: skip


def use_estimator(path):
    """The same for an estimator."""
    from fastbp.sklearn import MLPClassifier

    (fb.Ensemble if "estimators" in Path(path).name else fb).load(path, device="cpu", threads=1)
    estimator = MLPClassifier.load(path, device="cpu", threads=1)
    X = np.random.default_rng(0).integers(0, 2, (8, estimator._trainers()[0].net.sizes[0])).astype("f4")
    with tempfile.TemporaryDirectory() as folder:
        return tried(
            lambda: estimator.predict(X), lambda: estimator.predict_proba(X), lambda: repr(estimator),
            lambda: estimator.partial_fit(X, estimator.classes_[np.arange(8) % len(estimator.classes_)]),
            lambda: estimator.to_c(f"{folder}/m.c"), lambda: estimator.save(f"{folder}/m"),
        )  # fmt: skip


def tried(*whats):
    """Used where all of it works, partly where some of it raises what it may."""
    said = "used"
    for what in whats:
        try:
            what()
        except ALLOWED:
            said = "partly"
        except FileNotFoundError:  # save has refused
            pass
    return said


def worker():
    """Use the files that come as lines; a line for each."""
    warnings.simplefilter("ignore")
    fb.Trainer(fb.MLP([2, 2], seed=0)).predict(np.zeros((1, 2)))  # all that is loaded is loaded
    fb.Trainer(fb.MLP([2, 2], seed=0, dtype="float64")).predict(np.zeros((1, 2)))
    if os.name == "posix":
        import resource

        pages = (
            int(Path("/proc/self/statm").read_text().split()[0]) if os.path.exists("/proc/self/statm") else 0
        )
        limit = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    print("ready", flush=True)
    for line in sys.stdin:
        try:
            print(use(line.strip()), flush=True)
        except BaseException as error:
            print(f"FOUND {type(error).__name__}: {error}".replace("\n", " ")[:300], flush=True)


def outcomes(paths):
    """What became of each file; a process that dies counts for the file that it had."""
    waiting, found = list(paths), {}
    while waiting:
        environment = os.environ | {"PYTHONPATH": str(Path(fb.__file__).parents[1])}
        pipes = dict.fromkeys(("stdin", "stdout"), subprocess.PIPE) | {"stderr": subprocess.DEVNULL}
        command = [sys.executable, __file__, "--worker"]
        process = subprocess.Popen(command, env=environment, text=True, **pipes)
        assert process.stdout.readline() == "ready\n", "the worker did not start"
        while waiting:
            path = waiting.pop()
            print(path, file=process.stdin, flush=True)
            said = _line(process)
            found[path] = said or f"FOUND exit {process.poll()}, or {SECONDS} s"
            if not said:
                break
        process.kill()
        process.communicate()
    return found


def _line(process):
    """The process's next line; nothing where it died or takes too long."""
    timer = threading.Timer(SECONDS, process.kill)
    timer.start()
    line = process.stdout.readline().strip()
    timer.cancel()
    if not line:
        process.wait(10)
    return line


def battery(count, seed, folder):
    """{what became of it: how many} of so many damaged files, and the findings: {path: what}."""
    chance, goods = random.Random(seed), []
    for path in models(folder):
        config, tensors = parts(path)
        goods.append({"name": path.stem, "bytes": path.read_bytes(), "old": whole(config, tensors),
                      "config": config, "tensors": tensors})  # fmt: skip
    paths = []
    for number in range(count):
        good = chance.choice(goods)
        paths.append(folder / f"{number}-{good['name']}.safetensors")
        paths[-1].write_bytes(mutated(chance, good))
    found = outcomes(paths)
    counts = collections.Counter(said.split()[0] for said in found.values())
    return counts, {path: said for path, said in found.items() if said.startswith("FOUND")}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=8000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", metavar="FOLDER", help="where the files are kept, to look at findings")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        return worker()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(args.keep or temporary)
        folder.mkdir(exist_ok=True, parents=True)
        counts, findings = battery(args.count, args.seed, folder)
    for path, said in findings.items():
        print(path.name, said)
    print(f"{args.count} files: " + ", ".join(f"{n} {what}" for what, n in sorted(counts.items())))
    return int(bool(findings))


if __name__ == "__main__":
    sys.exit(main())
