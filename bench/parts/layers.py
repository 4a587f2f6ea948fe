"""What dropout, norms, skips, embeddings and prelu add to a training step, beside the plain network."""

import numpy as np

import fastbp as fb

from ..steps import report
from ..steps.cases import SIX
from .turns import best

EXTRAS = {
    "plain": {},
    "dropout 0.2": {"dropout": 0.2},
    "input dropout": {"input_dropout": 0.2},
    "layer norm": {"norm": "layer"},
    "batch norm": {"norm": "batch"},
    "residual": {"residual": True},
    "embeddings": {"embeddings": {0: (100, 8), 1: (20, 4)}},
    "prelu": {"activation": "prelu"},
}
CASES = [case for case in SIX if case.name in ("tiny", "tab", "mnist", "keras")]


def measure(case, rounds, threads):
    """{extra: seconds a step}; without what the network cannot have."""
    rng, works = np.random.default_rng(0), {}
    for name, options in EXTRAS.items():
        try:
            net = fb.MLP(case.sizes, seed=0, **options)
        except ValueError:  # no layer that a skip fits
            continue
        X = rng.standard_normal((case.samples, case.sizes[0]), np.float32)
        for column, categories, _ in net.embedded:
            X[:, column] = rng.integers(0, categories, len(X))
        y = rng.integers(0, case.sizes[-1], len(X))
        trainer = fb.Trainer(net, batch_size=case.batch, threads=threads, seed=0)
        works[name] = lambda trainer=trainer, X=X, y=y: trainer.fit(X, y, verbose=0)
    return {name: seconds / case.steps for name, seconds in best(works, rounds).items()}


def rows(found):
    """The table of {case: what ``measure`` found}."""
    table = [("", "plain, us", *list(EXTRAS)[1:])]
    for case, seconds in found.items():
        cells = [f"{seconds[n] / seconds['plain']:.2f}" if n in seconds else "" for n in list(EXTRAS)[1:]]
        table.append((case, f"{1e6 * seconds['plain']:.0f}", *cells))
    return table


def main(args):
    """Measure and print: --rounds, --threads, --quick, --markdown."""
    rounds = args.rounds or (3 if args.quick else 150)
    cases = CASES[: 1 if args.quick else None]
    found = {f"{case.name} {case.shape}": measure(case, rounds, args.threads) for case in cases}
    print(
        f"a training step, threads: {args.threads}; times the plain one's, the fastest of {rounds} in turns"
    )
    print(report.table(rows(found), args.markdown))
    return 0
