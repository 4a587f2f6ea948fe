"""What a rebuilding must leave as it is: bits, compile seconds, rates of kernels; this tree beside a commit.

    python -m bench.unchanged HEAD            # bits, seconds, rates of the work tree against HEAD
    python -m bench.unchanged HEAD bits       # bits alone: a minute, most of it compiling
    python -m bench.unchanged HEAD bits simulator   # also the GPU's program, in numba's simulator

Bits: the weights after a fixed set of fits, and what they predict, on 1 and on 2 threads. Seconds and
rates are medians of runs in turns; how far they may differ by chance is for the reader to judge.
"""

import argparse
import hashlib
import inspect
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("bits", "simulator", "seconds", "rates")


def fits(device):
    """{name: (Trainer's maker, X, y, fit's arguments)}: every kind of layer, loss, optimizer and option."""
    import numpy as np

    import fastbp as fb
    from fastbp import losses, optimizers

    rng = np.random.default_rng(7)
    small = device != "cpu"
    rows, inputs, classes = (6, 3, 3) if small else (300, 33, 5)  # a simulated thread takes 150 us
    X = rng.standard_normal((rows, inputs)).astype(np.float32)
    labels, T = rng.integers(0, classes, rows), rng.standard_normal((rows, 4))
    widths = [3, 2] if small else [40, 19]
    found = {}

    def case(name, y=labels, outputs=classes, activation="relu", loss="cross_entropy", net=(), data=X,
             hidden=widths, fit=(), **trainer):  # fmt: skip
        options = {"optimizer": "adam", "batch_size": 4 if small else 64, "seed": 3, "device": device}
        sizes = [data.shape[1], *hidden, outputs]

        def make(threads):
            network = fb.MLP(sizes, activation, seed=5, **dict(net))
            if device == "cpu":
                options["threads"] = threads
            return fb.Trainer(network, loss, **{**options, **trainer})

        found[name] = make, data, y, {"epochs": 1 if small else 2, **dict(fit)}

    activations = (
        "identity relu leaky_relu prelu elu celu selu gelu gelu_tanh silu mish softplus softsign hardtanh "
        "hardswish sigmoid tanh sin"
    ).split()
    if small:  # one a layer
        for pair in zip(activations[::2], activations[1::2], strict=True):
            case(f"activations {', '.join(pair)}", activation=list(pair))
    else:
        for name in activations:
            case(f"activation {name}", activation=name)
    soft, positive = rng.dirichlet(np.ones(classes), rows), rng.gamma(2.0, 1.0, (rows, 4)) + 0.01
    for name, loss, y in (
        ("soft", losses.CrossEntropy(), soft),
        ("smooth", losses.CrossEntropy(label_smoothing=0.1), labels),
        ("class weights", losses.CrossEntropy(class_weight=np.linspace(0.5, 2, classes)), labels),
        ("bce", losses.BCEWithLogits(), (T > 0).astype(float)),
        ("focal labels", losses.Focal(), labels),
        ("focal", losses.Focal(multi_label=True), (T > 0).astype(float)),
        ("hinge", losses.Hinge(), labels),
        ("mse", losses.MSE(), T),
        ("mae", losses.MAE(), T),
        ("huber", losses.Huber(0.5), T),
        ("log_cosh", losses.LogCosh(), T),
        ("quantile", losses.Quantile([0.1, 0.9]), T[:, :2]),
        ("poisson", losses.PoissonNLL(), np.floor(positive)),
        ("gamma", losses.GammaNLL(), positive),
        ("gaussian", losses.GaussianNLL(), T[:, :2]),
        ("cosine", losses.Cosine(), T),
    ):
        case(f"loss {name}", y, classes if y is labels or y is soft else 4, loss=loss)
    for name, optimizer in {
        "sgd": optimizers.SGD(0.05),
        "momentum": optimizers.SGD(0.05, momentum=0.9, dampening=0.1, weight_decay=0.01),
        "nesterov": optimizers.SGD(0.05, momentum=0.9, nesterov=True),
        "adam decay": optimizers.Adam(weight_decay=0.01),
        "amsgrad": optimizers.Adam(amsgrad=True),
        "adamw": optimizers.AdamW(),
        "nadam": optimizers.NAdam(weight_decay=0.01, decoupled_weight_decay=True),
        "radam": optimizers.RAdam(),
        "adamax": optimizers.Adamax(),
        "rmsprop": optimizers.RMSprop(),
        "rmsprop all": optimizers.RMSprop(momentum=0.9, centered=True, weight_decay=0.01),
        "adagrad": optimizers.Adagrad(lr_decay=0.1, initial_accumulator_value=0.1),
        "adadelta": optimizers.Adadelta(),
        "lion": optimizers.Lion(),
    }.items():
        steps = {"batch_size": 1} if small and name == "radam" else {}  # its sixth step is another one
        case(f"optimizer {name}", optimizer=optimizer, **steps)
    for name, options in {
        "clip": {"clip_norm": 0.1},
        "clip layers": {"clip_layer_norm": 0.1},
        "clip value, l1": {"clip_value": 0.01, "l1": 1e-3},
        "bare bias": {"decay_bias": False, "optimizer": optimizers.AdamW()},
        "factors": {"lr_factors": [0.5, 1.0, 0.1]},
        "max norm": {"max_norm": 0.5},
        "accumulate": {"accumulate": 3, "batch_size": 2 if small else 64},
        "ema": {"ema": 0.9},
        "ema, max norm, clip": {"ema": 0.9, "max_norm": 0.5, "clip_norm": 0.5},
    }.items():
        case(f"option {name}", **options)
    for name, schedule in {
        "onecycle": fb.schedules.OneCycle(max_lr=0.01),
        "cosine": fb.schedules.Cosine(),
        "exponential": fb.schedules.Exponential(0.9),
    }.items():
        case(f"schedule {name}", schedule=schedule, optimizer="adamw")
        if name != "onecycle":  # NAdam's momentum has a course of its own
            case(f"schedule {name}, nadam", schedule=schedule, optimizer="nadam")
        case(f"schedule {name}, sgd", schedule=schedule, optimizer=optimizers.SGD(0.05, momentum=0.9))
    for name, net in {
        "dropout": {"dropout": 0.3, "input_dropout": 0.1},
        "layer norm": {"norm": "layer"},
        "batch norm": {"norm": "batch"},
        "all": {"norm": "batch", "dropout": 0.2, "residual": True},
        "float64": {"dtype": "float64"},
    }.items():
        case(f"net {name}", net=net.items(), hidden=[widths[0]] * 2)
        case(f"net {name}, prelu", net=net.items(), hidden=[widths[0]] * 2, activation="prelu")
    mixed = X.copy()
    mixed[:, 0], mixed[:, 2] = rng.integers(0, 4, rows), rng.integers(0, 3, rows)
    case("net embeddings", net={"embeddings": {0: (4, 3), 2: (3, 2)}}.items(), data=mixed)
    case("weights", fit={"sample_weight": rng.uniform(0, 2, rows)}.items())
    if "ordered" in losses.Quantile.__dataclass_fields__:  # a tree that has these
        case("loss ordered quantiles", T[:, :2], 4, loss=losses.Quantile([0.1, 0.9], ordered=True))
        own = np.random.default_rng(8)  # what follows is drawn as ever
        of_targets, some = own.uniform(0, 2, T.shape), np.where(own.uniform(size=T.shape) < 0.3, np.nan, T)
        case("weights of targets", some, 4, loss=losses.Huber(ignore_nan=True),
             fit={"sample_weight": of_targets}.items())  # fmt: skip
    if "offset" in inspect.signature(fb.Trainer.fit).parameters:
        case("offset", np.floor(positive), 4, loss="poisson_nll", fit={"offset": 0.1 * T}.items())
    if not small:
        case("batch of 1", batch_size=1)
        case("long batch", batch_size=300, hidden=[100, 70])
        wide = rng.standard_normal((900, 784)).astype(np.float32)
        many = rng.integers(0, 10, 900)
        case("wide", many, 10, data=wide, hidden=[512, 512], batch_size=128)
        case("wide, long batch", many, 10, data=wide, hidden=[512, 300], batch_size=600)
        case("wide, uint8", many, 10, data=(wide * 40).astype(np.uint8), hidden=[130, 1])
        case("narrow", labels % 2, 2, hidden=[64, 64], batch_size=64)
    return found


def bits(device):
    """{case and threads: digest} of the weights, the losses and the predictions, in this process."""
    import numpy as np

    result = {}
    for name, (make, X, y, options) in fits(device).items():
        for threads in (1, 2) if device == "cpu" else (1,):
            trainer = make(threads)
            history = trainer.fit(X, y, verbose=0, **options)
            digest = hashlib.sha256(trainer.net.params.tobytes() + trainer.slots.tobytes())
            digest.update(np.array(history.history["loss"]).tobytes())
            if device == "cpu" or not name.startswith(("optimizer", "option", "schedule")):
                digest.update(trainer.predict(X[:5]).tobytes())
                loss, gradients = trainer.gradients(X[:20], y[:20])
                digest.update(b"".join(np.ascontiguousarray(g).tobytes() for pair in gradients for g in pair))
            if device == "cpu":
                digest.update(trainer.predict(X).tobytes())
            result[f"{name}, {threads}"] = digest.hexdigest()[:16]
    return result


def seconds(tree):
    """Of a first fit where the cache of machine code is empty, in a process of its own."""
    code = (
        "import time, numpy as np, fastbp as fb; start = time.perf_counter(); "
        "fb.Trainer(fb.MLP([8, 8, 2])).fit(np.eye(8), np.arange(8) % 2, verbose=0); "
        "print(time.perf_counter() - start)"
    )
    with tempfile.TemporaryDirectory() as cache:
        return float(_run(tree, ["-c", code], NUMBA_CACHE_DIR=cache))


def rates(tree):
    """{name: number} of all tables that ``bench --kernels`` prints."""
    found = {}
    for line in _run(tree, ["-m", "bench", "--kernels", "--quick", "--rounds", "10"]).splitlines():
        cells = re.split(r"\s{2,}", line.strip())
        for place, cell in enumerate(cells[1:]):
            if re.fullmatch(r"[\d.]+", cell):
                found.setdefault(f"{cells[0]} [{place}]", float(cell))
    return found


def _run(tree, arguments, **variables):
    """What a Python prints that sees the ``fastbp`` and ``bench`` of a tree."""
    environment = {**os.environ, "PYTHONPATH": str(tree), **variables}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=tree, env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"unchanged: {arguments} in {tree}: {done.stderr.strip()[-1500:]}")
    return done.stdout


def _bits(tree, device):
    simulated = {"NUMBA_ENABLE_CUDASIM": "1"} if device != "cpu" else {}
    return json.loads(_run(tree, [str(Path(__file__).resolve()), "--fits", device], **simulated))


def compare(base, parts, rounds):
    """Print what differs between a tree and this one; the number of fits whose bits do."""
    wrong = 0
    for part, device in (("bits", "cpu"), ("simulator", "cuda")):
        if part in parts:
            before, after = _bits(base, device), _bits(ROOT, device)
            changed = [name for name in before if after.get(name) != before[name]]
            wrong += len(changed)
            print(
                f"{part}: {len(before) - len(changed)} of {len(before)} fits the same", *changed, sep="\n  "
            )
    if "seconds" in parts:
        pairs = [(seconds(base), seconds(ROOT)) for _ in range(rounds)]
        before, after = (statistics.median(x) for x in zip(*pairs, strict=True))
        print(f"compiling: {before:.1f} s before, {after:.1f} s now ({after / before:.2f})")
    if "rates" in parts:
        pairs = [(rates(base), rates(ROOT)) for _ in range(rounds)]
        names = [n for n in pairs[0][0] if all(n in found for pair in pairs for found in pair)]
        ratios = {n: statistics.median(b[n] / a[n] for a, b in pairs if a[n]) for n in names}
        middle = statistics.median(ratios.values())
        print(f"rates: {len(ratios)} numbers, now over before: median {middle:.3f}; beyond 10 %:")
        for name, ratio in sorted(ratios.items(), key=lambda pair: pair[1]):
            if not 0.9 < ratio < 1.1:
                print(f"  {ratio:.2f}  {name}")
    return wrong


def main():
    """Returns the exit code: 1 where a bit changed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("base", nargs="?", default="HEAD", help="a commit (default: HEAD)")
    parser.add_argument(
        "parts", nargs="*", metavar="part", help=f"{', '.join(PARTS)} (default: all but the simulator)"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--fits", metavar="DEVICE", help=argparse.SUPPRESS)  # the process that fits
    args = parser.parse_args()
    if args.fits:
        print(json.dumps(bits(args.fits)))
        return 0
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"part: got {', '.join(unknown)}, takes {', '.join(PARTS)}")
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "base"
        subprocess.run(["git", "-C", ROOT, "worktree", "add", "-q", "--detach", base, args.base], check=True)
        try:
            return 1 if compare(base, args.parts or ("bits", "seconds", "rates"), args.rounds) else 0
        finally:
            subprocess.run(["git", "-C", ROOT, "worktree", "remove", "--force", base], check=True)


if __name__ == "__main__":
    if "--fits" in sys.argv:
        sys.path.pop(0)  # this folder: its modules have common names
    sys.exit(main())
