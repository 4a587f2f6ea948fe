"""Single steps beside torch and scikit-learn; frozen layers; autoencoders: the tables of docs/fitting.md."""

import contextlib
import functools
import warnings

import numpy as np

import fastbp as fb

from ..steps import report
from .turns import best

SINGLE = (64, 100, 10)
FROZEN = (((64, 100, 10), 32, 256), ((784, 512, 512, 10), 128, 16))  # sizes, batch, steps an epoch
CODERS = (((64, 32, 8), 32, 256), ((784, 256, 32), 128, 16))
KINDS = {"untied": {}, "tied": {"tied": True}, "noise": {"noise": 0.1}}


def _data(rows, sizes):
    rng = np.random.default_rng(0)
    return rng.standard_normal((rows, sizes[0]), np.float32), rng.integers(0, sizes[-1], rows)


def single_steps(rows, threads):
    """{name: function that makes one step on so many rows}"""
    X, y = _data(rows, SINGLE)
    trainer = fb.Trainer(fb.MLP(SINGLE, seed=0), threads=threads)
    works = {"fastbp": lambda: trainer.train_on_batch(X, y)}
    with contextlib.suppress(ImportError):
        works["torch, fused Adam"] = _torch(X, y, threads)
    with contextlib.suppress(ImportError):
        from sklearn.neural_network import MLPClassifier

        model = MLPClassifier(SINGLE[1:-1]).partial_fit(X, y, classes=np.arange(SINGLE[-1]))
        works["scikit-learn partial_fit"] = lambda: model.partial_fit(X, y)
    return works


def _torch(X, y, threads):
    import torch

    torch.set_num_threads(threads)
    inputs, hidden, outputs = SINGLE
    net = torch.nn.Sequential(
        torch.nn.Linear(inputs, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, outputs)
    )
    optimizer = torch.optim.Adam(net.parameters(), fused=True)
    X, y = torch.from_numpy(X), torch.from_numpy(y)

    def work():
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(X), y).backward()
        optimizer.step()

    return work


def frozen(sizes, batch, steps, threads):
    """{how many layers are frozen: an epoch}"""
    works, (X, y) = {}, _data(steps * batch, sizes)
    for count in range(len(sizes) - 1):
        trainer = fb.Trainer(fb.MLP(sizes, seed=0).freeze(*range(count)), batch_size=batch, threads=threads)
        works[count] = lambda trainer=trainer: trainer.fit(X, y, verbose=0)
    return works


def coders(sizes, batch, steps, threads):
    """{kind of autoencoder: an epoch}"""
    works, (X, _) = {}, _data(steps * batch, sizes)
    for name, options in KINDS.items():
        coder = fb.Autoencoder(sizes, seed=0, batch_size=batch, threads=threads, **options)
        works[name] = lambda coder=coder: coder.fit(X, verbose=0)
    return works


def _us(seconds, steps=1):
    return f"{1e6 * seconds / steps:.0f}"


def main(args):
    """Measure and print, microseconds a step: --rounds, --threads, --quick, --markdown."""
    warnings.simplefilter("ignore")
    rounds = args.rounds or (2 if args.quick else 20)
    show = functools.partial(report.table, markdown=args.markdown)
    name = lambda sizes, batch, *_: f"{'-'.join(map(str, sizes))}, batch {batch}"  # noqa: E731
    found = {rows: best(single_steps(rows, args.threads), rounds) for rows in (1, 32)}
    table = [(name(SINGLE, "..."), *found[1])]
    table += [(f"{rows} row{'s' * (rows > 1)}", *map(_us, times.values())) for rows, times in found.items()]
    print(f"us a step, threads: {args.threads}, the fastest of {rounds} in turns\n\n{show(table)}")
    keep = slice(None, 1 if args.quick else None)
    table = [("a step inside fit", "all train", "first layer frozen", "first two frozen")]
    for case in FROZEN[keep]:
        times = best(frozen(*case, args.threads), rounds)
        table.append((name(*case), *[_us(t, case[2]) for t in times.values()], *[""] * (3 - len(times))))
    print(f"\n{show(table)}")
    table = [("autoencoder", *KINDS)]
    for case in CODERS[keep]:
        times = best(coders(*case, args.threads), rounds).values()
        table.append((name(*case), *(_us(t, case[2]) for t in times)))
    print(f"\n{show(table)}")
    return 0
