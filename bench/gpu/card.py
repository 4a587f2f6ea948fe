"""python -m bench.gpu: is everything right on this GPU, and how fast is it; one page in 8 minutes.

First correctness: activations, losses and optimizers on fresh random data against the float64 oracle.
Then the device's ceilings, and the workloads beside torch (eager, max-autotune, CUDA graphs) and JAX where
they are installed: same device, same data, same weights, float32 proper. Epochs are timed whole, by the
wall clock, from data that lies on the GPU to a loss that is on the host; the median counts.
"""

import argparse
import itertools
import json
import sys
import time
from pathlib import Path

import numpy as np

from fastbp.printing import text_table

from ..steps.cases import SIX, Case
from . import model

CASES = (
    *SIX,
    Case("odd3", (51, 333, 77, 7), batch=100, steps=256),
    Case("deep", (20, *[96] * 10, 3), batch=64, steps=128),
    Case("huge", (4096, 4096, 4096, 10), batch=8192, steps=2),
)
LIMIT = 480.0  # seconds for all of it
EPOCHS, CHECKED = 9, 2  # timed; compared before
AGREE = 0.02  # of the loss between peers after two epochs


# --- correctness


def checks(rng, tiny):
    """Yield (what, error, bound) of one configuration after the other, against reference.py in float64."""
    import fastbp as fb
    from fastbp.kernels import codes
    from fastbp.kernels import reference as ref

    shapes = [([3, 5, 2], 9)] if tiny else [([37, 113, 61, 7], 100), ([300, 520, 10], 128), ([5, 9, 3], 4096)]
    losses = ["cross_entropy", "mse", "bce_with_logits", "mae", "huber", "log_cosh"][: 2 if tiny else 6]
    activations = ["relu", "gelu"] if tiny else list(codes.ACTIVATIONS)
    for dtype, (sizes, batch) in itertools.product(["float32", "float64"], shapes):
        bound = {"float32": 1e-5, "float64": 1e-11}[dtype]
        pairs = [(a, losses[0]) for a in activations] + [("tanh", one) for one in losses[1:]]
        for activation, loss in pairs:
            net = fb.MLP(sizes, activation, seed=1, dtype=dtype)
            X, y = _data(rng, loss, batch, sizes)
            value, got = fb.Trainer(net, loss, device="cuda").gradients(X.astype(dtype), y)
            params = [
                (w.astype(float), b.astype(float)) for w, b in zip(net.weights, net.biases, strict=True)
            ]
            exact_value, exact = ref.gradients(params, X.astype(dtype).astype(float), y,
                                               [activation] * (len(sizes) - 2), loss)  # fmt: skip
            error = max(_relative(got, exact), abs(value - exact_value) / max(abs(exact_value), 1e-3))
            yield f"gradients {dtype} {'-'.join(map(str, sizes))} x {batch} {activation} {loss}", error, bound
    for optimizer in ("sgd", "adam", "adamw"):
        sizes, batch = shapes[0]
        net = fb.MLP(sizes, "tanh", seed=1)
        X, y = _data(rng, "cross_entropy", 2 * batch + 1, sizes)
        X = X.astype("f4")
        exact = [(w.astype(float), b.astype(float)) for w, b in zip(net.weights, net.biases, strict=True)]
        trainer = fb.Trainer(net, optimizer=optimizer, batch_size=batch, device="cuda")
        trainer.fit(X, y, epochs=2 if tiny else 7, shuffle=False)
        config = trainer.optimizer.config()
        config.pop("name"), config.pop("amsgrad", None)
        order = [np.arange(s, min(s + batch, len(X))) for s in range(0, len(X), batch)]
        ref.train(exact, X.astype(float), y, ["tanh"] * (len(sizes) - 2), "cross_entropy",
                  type(trainer.optimizer).__name__, config, order * (2 if tiny else 7))  # fmt: skip
        error = _relative(zip(net.weights, net.biases, strict=True), exact)
        yield f"{trainer.steps} steps of {optimizer}", error, 1e-5
    for (name, network), (option, options) in itertools.product(MORE.items(), OPTIONS.items()):
        if not tiny or name == option == "everything":
            yield f"{name}, {option}: as the CPU", _twins(fb, rng, network, options, tiny), 1e-9
    again = [_trained(fb, rng_seed, tiny) for rng_seed in (5, 5)]
    yield "the same bits twice", float(np.abs(again[0] - again[1]).max()), 0.0


# what the reference's plain steps have not: held to the CPU's program in float64, which the tests hold to it
MORE = {
    "plain": {},
    "dropout": {"dropout": 0.3, "input_dropout": 0.1},
    "layer norm": {"norm": "layer"},
    "batch norm": {"norm": "batch"},
    "residual": {"residual": True},
    "embeddings": {"embeddings": {0: (50, 7), 2: (3, 2)}},
    "everything": {
        "dropout": [0.2, 0.0, 0.5],
        "input_dropout": 0.1,
        "norm": ["layer", None, "batch"],
        "residual": [False, True, True],
        "embeddings": {0: (50, 7), 2: (3, 2)},
    },
    "your own functions": {},
}
OPTIONS = {
    "plain": {},
    "clip_norm": {"clip_norm": 0.1},
    "max_norm, ema": {"max_norm": 0.9, "ema": 0.9},
    "everything": {
        "clip_layer_norm": 0.05,
        "clip_value": 0.01,
        "l1": 1e-3,
        "decay_bias": False,
        "accumulate": 2,
        "ema": 0.9,
        "lr_factors": [0.5, 2, 1.5, 1],
        "max_norm": 0.9,
    },
}


def _twins(fb, rng, network, options, tiny):
    """Largest difference between the CPU and the GPU, weights and predictions, as a share of the largest."""
    width, rows = (5, 22) if tiny else (150, 1000)
    X, y, found = rng.standard_normal((rows, 6)), rng.integers(0, 3, rows), []
    X[:, 0], X[:, 2] = rng.integers(0, 50, rows), rng.integers(0, 3, rows)
    activation, loss = "gelu", "cross_entropy"
    if network is MORE["your own functions"]:
        activation = fb.activation(lambda z: z / (1 + abs(z)), name="bench")
        loss, y = fb.loss(lambda z, t: (z - t) ** 2, name="bench"), rng.standard_normal((rows, 3))
    for device in ("cpu", "cuda"):
        net = fb.MLP([6, width, width, width, 3], activation, **network, seed=0, dtype="float64")
        optimizer = fb.SGD(0.05, momentum=0.9, weight_decay=0.01)
        trainer = fb.Trainer(net, loss, optimizer, rows // 4, seed=2**33 + 1, device=device, **options)
        trainer.fit(X, y, epochs=2)
        found.append(np.concatenate([net.params, trainer.predict(X).ravel()]))
    error = np.abs(found[0] - found[1]).max() / np.abs(found[0]).max()
    return float(error) if np.isfinite(error) else float("inf")


def _trained(fb, seed, tiny):
    rng = np.random.default_rng(seed)
    sizes, rows = ([3, 5, 2], 20) if tiny else ([64, 100, 10], 5000)
    X, y = _data(rng, "cross_entropy", rows, sizes)
    net = fb.MLP(sizes, seed=0)
    fb.Trainer(net, batch_size=10 if tiny else 512, seed=0, device="cuda").fit(X.astype("f4"), y)
    return net.params


def _data(rng, loss, rows, sizes):
    X = rng.standard_normal((rows, sizes[0]))
    if loss == "cross_entropy":
        return X, rng.integers(0, sizes[-1], rows)
    return X, rng.uniform(0.1, 0.9, (rows, sizes[-1]))


def _relative(got, exact):
    flat = [np.concatenate([np.ravel(a) for pair in p for a in pair]).astype(float) for p in (got, exact)]
    got, exact = flat
    error = np.linalg.norm(got - exact) / np.linalg.norm(exact)
    return float(error) if np.isfinite(error) else float("inf")


def correctness(rng, tiny=False, out=print):
    """{"checks": how many, "failed": [...], "worst": share of its bound}; tells of each that fails."""
    failed, worst, count = [], 0.0, 0
    for what, error, bound in checks(rng, tiny):
        count += 1
        worst = max(worst, error / bound if bound else float(error > 0))
        if not error <= bound:
            failed.append(f"{what}: {error:.2g}, takes {bound:.2g}")
            out(f"WRONG {failed[-1]}")
    return {"checks": count, "failed": failed, "worst": worst}


# --- ceilings


def ceilings():
    """{"fma": TFLOP/s, "copy": GB/s, "tensor": TFLOP/s or None}, measured by events."""
    from fastbp.kernels.cuda import program

    from .peers import tensor_tflops

    fma, copy = program.ceilings(np.dtype("float32"))
    return {"fma": 1e-3 * fma, "copy": copy, "tensor": tensor_tflops()}


# --- timings


def time_peer(name, case, X, y, orders):
    """{"us": median of a step, "spread": of its epochs, "loss": of the second epoch}."""
    from .peers import PEERS

    peer = PEERS[name][0](case, X, y, 1)
    peer.reset()
    if hasattr(peer, "epochs"):
        losses, seconds = peer.epochs(orders)
    else:
        losses, seconds = [], []
        for order in orders:
            start = time.perf_counter()
            losses.append(peer.epoch(order))  # a float: waits for the device
            seconds.append(time.perf_counter() - start)
    steps = 1e6 / case.steps * np.array(seconds[CHECKED:])
    return {"us": float(np.median(steps)), "spread": [float(steps.min()), float(steps.max())],
            "loss": float(losses[CHECKED - 1])}  # fmt: skip


def timings(cases, deadline, out=print):
    """{case: {peer: result or {"error": why}}}."""
    from ..steps.peers import Fastbp
    from .peers import installed

    found = {}
    for case in cases:
        rows = found[case.name] = {}
        X, y = case.data()
        orders = Fastbp.orders(case.samples, CHECKED + EPOCHS)
        for name in installed():
            if time.monotonic() > deadline:
                rows[name] = {"error": "the time was up"}
                continue
            try:
                rows[name] = time_peer(name, case, X, y, orders)
            except Exception as error:  # a peer that cannot is no reason to lose the page
                rows[name] = {"error": f"{type(error).__name__}: {error}"[:200]}
        reference = rows.get("fastbp", {}).get("loss")
        for row in rows.values():
            if reference and "loss" in row and not abs(row["loss"] / reference - 1) < AGREE:
                row["error"] = f"loss {row['loss']:.4g}, fastbp's {reference:.4g}: not the same training"
        out(_line(case, rows))
    return found


# --- the page


def _line(case, rows):
    cells = [f"{n} {r['us']:,.1f}" if "error" not in r else f"{n} -" for n, r in rows.items()]
    return f"{case.name:8} us a step: " + ", ".join(cells)


def page(content):
    """The results as text, from what the JSON holds."""
    lines = [f"fastbp on {content['machine'].get('gpu', '?')}", ""]
    check = content["correctness"]
    state = "all right" if not check["failed"] else f"{len(check['failed'])} WRONG"
    lines += [f"correctness: {check['checks']} checks, {state}, worst {check['worst']:.0%} of its bound",
              *(f"  {text}" for text in check["failed"])]  # fmt: skip
    if content.get("ceilings"):
        c = content["ceilings"]
        tensor = f"{c['tensor']:.0f} TFLOP/s bf16 tensor" if c["tensor"] else "tensor cores not measured"
        lines.append(f"ceilings: {c['fma']:.1f} TFLOP/s float32, {c['copy']:.0f} GB/s, {tensor}")
    names = list(dict.fromkeys(n for rows in content["timings"].values() for n in rows))
    table = [["us a step", *names, "TFLOP/s", "predicted"]]
    for case in CASES:
        rows = content["timings"].get(case.name)
        if rows is None:
            continue
        cells = [f"{rows[n]['us']:,.1f}" if "error" not in rows.get(n, {"error": 1}) else "-" for n in names]
        mine = rows.get("fastbp", {})
        rate = f"{case.gflop / mine['us'] * 1e3:.2f}" if "us" in mine else ""
        table.append([case.name, *cells, rate, f"{content['predicted'][case.name]:,.0f}"])
    lines += ["", text_table(table)]
    for case, rows in content["timings"].items():
        lines += [f"{case}, {n}: {r['error']}" for n, r in rows.items() if "error" in r]
    return "\n".join(lines)


def picture(content, path):
    """Bars of the time of a step, fastbp's as 1."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    cases = [c for c, rows in content["timings"].items() if "us" in rows.get("fastbp", {})]
    names = list(dict.fromkeys(n for c in cases for n in content["timings"][c]))
    figure, axes = pyplot.subplots(figsize=(9, 4.5))
    for k, name in enumerate(names):
        rows = [content["timings"][c].get(name, {}) for c in cases]
        heights = [r["us"] / content["timings"][c]["fastbp"]["us"] if "error" not in r and "us" in r else 0
                   for c, r in zip(cases, rows, strict=True)]  # fmt: skip
        axes.bar(np.arange(len(cases)) + 0.8 * k / max(1, len(names)), heights, 0.8 / max(1, len(names)),
                 label=name)  # fmt: skip
    axes.set_xticks(np.arange(len(cases)) + 0.3, cases)
    axes.set_ylabel("time of a step, fastbp = 1")
    axes.set_yscale("log")
    if names:
        axes.legend()
    figure.savefig(path, bbox_inches="tight", dpi=110)
    pyplot.close(figure)


def main(argv=None):
    """Run; returns the exit code: 1 if anything was wrong, 2 without a GPU."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="correctness alone, tiny: for compute-sanitizer")
    parser.add_argument("--cases", help="names, comma-separated (default: all)")
    parser.add_argument("--seed", type=int, help="of the random data (default: drawn)")
    parser.add_argument("--out", default="bench-results", metavar="DIR", help="(default: bench-results)")
    args = parser.parse_args(argv)
    from fastbp.engine import backend, devices

    start = time.monotonic()
    reason = devices.no_gpu()
    if reason is not None:
        print(f"bench.gpu: {reason}", file=sys.stderr)
        return 2
    seed = np.random.SeedSequence().entropy % 2**32 if args.seed is None else args.seed
    print(f"seed {seed}", flush=True)
    chosen = [c for c in CASES if not args.cases or c.name in args.cases.split(",")]
    content = {
        "machine": backend.gpu_info(),
        "seed": seed,
        "correctness": correctness(np.random.default_rng(seed), tiny=args.short),
        "predicted": {c.name: model.predict(c, model.H200).microseconds for c in chosen},
        "ceilings": None,
        "timings": {},
    }
    if not args.short:
        content["ceilings"] = ceilings()
        content["timings"] = timings(chosen, start + LIMIT - 60)
    content["seconds"] = time.monotonic() - start
    folder = Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "gpu.json").write_text(json.dumps(content, indent=1))
    (folder / "gpu.txt").write_text(page(content) + "\n")
    if content["timings"]:
        picture(content, folder / "gpu.png")
    print(page(content), f"\n{content['seconds']:.0f} s; {folder}/gpu.json, .txt, .png")
    return bool(content["correctness"]["failed"])
