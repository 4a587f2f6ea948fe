"""Many networks at once: fit_many beside one network on one thread, a loop in Python threads, and JAX's vmap.

Then scikit-learn's search beside its own over scikit-learn's networks, and the cost of a network against how
many there are.
"""

import contextlib
import functools
import statistics
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

import fastbp as fb

from ..steps import machine, plots, report
from ..steps.cases import Case
from ..steps.peers_compiled import jax_epoch, jax_state

LR = 1e-3
COUNTS = tuple(4**k for k in range(7))  # of networks, for the picture
HIDDEN = ((32,), (64,), (100,), (32, 32))  # of the search: with three learning rates, 12 candidates
RATES = (1e-3, 3e-3, 1e-2)


class Many(NamedTuple):
    """Networks that are trained together: (sizes, batch) of each, the rows of X, the epochs of a run."""

    name: str
    networks: list
    rows: int
    epochs: int

    @property
    def loss(self):
        return "mse" if self.networks[0][0][-1] == 1 else "cross_entropy"

    def trainers(self):
        """New Trainers, each for one thread."""
        return [
            fb.Trainer(fb.MLP(sizes, seed=k), self.loss, fb.Adam(LR), batch, threads=1, seed=k)
            for k, (sizes, batch) in enumerate(self.networks)
        ]

    def data(self):
        """(X, labels, or numbers for one output), which all networks share."""
        rng, (sizes, _) = np.random.default_rng(0), self.networks[0]
        X = rng.standard_normal((self.rows, sizes[0]), np.float32)
        return X, X[:, 0] if self.loss == "mse" else rng.integers(0, sizes[-1], self.rows)

    def samples(self):
        """Samples times networks of a run."""
        return len(self.networks) * self.rows * self.epochs


def cases():
    """The five of the table."""
    rng = np.random.default_rng(1)
    mixed = [
        ((20, *(int(w) for w in rng.integers(4, 65, rng.integers(1, 4))), 5), int(rng.choice([16, 32, 64])))
        for _ in range(100)
    ]
    return [
        Many("64 of 30-64-64-2, batch 128", [((30, 64, 64, 2), 128)] * 64, 8192, 2),
        Many("64 of 64-100-10, batch 32", [((64, 100, 10), 32)] * 64, 1792, 10),
        Many("16 of 784-128-10, batch 128", [((784, 128, 10), 128)] * 16, 8192, 1),
        Many("100 mixed, 20-...-5", mixed, 2048, 5),
        Many("1,000 of 8-16-1, batch 16", [((8, 16, 1), 16)] * 1000, 256, 10),
    ]


def together(case):
    """All in one call."""
    trainers, (X, y) = case.trainers(), case.data()
    return lambda: fb.fit_many(trainers, X, y, epochs=case.epochs, verbose=0)


def in_turns(case, threads):
    """A loop over the trainers in Python threads."""
    trainers, (X, y) = case.trainers(), case.data()

    def run():
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda trainer: trainer.fit(X, y, case.epochs, verbose=0), trainers))

    return run


def vmapped(case):
    """JAX: an epoch of all networks is one jitted program, vmap over scan; None where they differ."""
    if len(set(case.networks)) > 1:
        return None
    import jax

    jax.config.update("jax_platforms", "cpu")
    (sizes, batch), (X, y) = case.networks[0], case.data()
    one = Case(case.name, sizes, batch, steps=case.rows // batch, lr=LR)
    epoch = functools.partial(jax_epoch, one)
    program = jax.jit(jax.vmap(epoch, in_axes=(0, None, None, 0)), donate_argnums=0)
    state = jax.tree.map(lambda a: jax.numpy.stack([a] * len(case.networks)), jax_state(one))
    X, y, rng = jax.device_put(X), jax.device_put(y.astype(np.int32)), np.random.default_rng(0)

    def run():
        nonlocal state
        for _ in range(case.epochs):
            orders = np.stack([rng.permutation(case.rows) for _ in case.networks]).astype(np.int32)
            state, losses = program(state, X, y, orders)
        losses.block_until_ready()

    return run


def alone(case):
    """{network's (sizes, batch): an epoch of one on one thread}"""
    X, y = case.data()
    found = {}
    for trainer, network in zip(case.trainers(), case.networks, strict=True):
        if network not in found:
            trainer.fit(X, y, 1, verbose=0)
            found[network] = functools.partial(trainer.fit, X, y, max(1, case.epochs), verbose=0)
    return found


def medians(works, rounds):
    """{name: seconds of a run, the median of rounds in turns}; the first run of each counts for nothing."""
    found = {name: [] for name in works}
    for turn in range(rounds + 1):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            if turn:
                found[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in found.items()}


def compare(case, rounds, threads):
    """Samples times networks a second of each way."""
    works = {"fit_many": together(case), "loop": in_turns(case, threads)}
    with contextlib.suppress(ImportError):
        works["jax"] = vmapped(case)
    single = alone(case)
    works = {name: work for name, work in works.items() if work} | single
    seconds = medians(works, rounds)
    one = sum(seconds[network] for network in case.networks)
    rates = {name: case.samples() / seconds[name] for name in works if name not in single}
    return {"name": case.name, "one": case.samples() / one, **rates}


def rows(results):
    """The table: rates, and what fit_many is of each."""
    head = ["networks", "fit_many", "one thread", "times", "loop", "times", "JAX vmap", "times"]
    table = [head]
    for r in results:
        row = [r["name"], _rate(r["fit_many"])]
        for name in ("one", "loop", "jax"):
            row += [_rate(r[name]), f"{r['fit_many'] / r[name]:.2f}"] if name in r else ["-", "-"]
        table.append(row)
    return table


def _rate(value):
    return f"{value / 1e6:.3g} M/s"


def searches(rounds):
    """12 candidates, 5 folds, 20 epochs: {data: {way: seconds}}"""
    from sklearn import datasets, neural_network
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import GridSearchCV

    from fastbp import sklearn as ours

    warnings.simplefilter("ignore", ConvergenceWarning)
    grid = {"hidden_layer_sizes": HIDDEN, "learning_rate_init": RATES}
    options = {"max_iter": 20, "n_iter_no_change": 100, "random_state": 0}
    found = {}
    for name, load in (("digits", datasets.load_digits), ("breast_cancer", datasets.load_breast_cancer)):
        X, y = load(return_X_y=True)
        X = (X - X.mean(axis=0)) / (X.std(axis=0) + 1e-9)
        mine, theirs = ours.MLPClassifier(**options), neural_network.MLPClassifier(**options)
        ways = {
            "MLPSearchCV": ours.MLPSearchCV(mine, grid, cv=5),
            "GridSearchCV of fastbp, 2 jobs": GridSearchCV(mine, grid, cv=5, n_jobs=2),
            "GridSearchCV of scikit-learn, 2 jobs": GridSearchCV(theirs, grid, cv=5, n_jobs=2),
        }
        fit = {way: functools.partial(search.fit, X, y) for way, search in ways.items()}
        found[name] = medians(fit, rounds)
    return found


def by_count(counts, rounds):
    """[(networks, seconds of one)]: of 8-16-1 networks, ten epochs of 256 rows."""
    found = []
    for count in counts:
        case = Many("", [((8, 16, 1), 16)] * count, 256, 10)
        found.append((count, medians({"all": together(case)}, rounds)["all"] / count))
    return found


def picture(points, path):
    """Seconds of a network against how many there are; returns the path, or None without matplotlib."""
    counts, seconds = zip(*points, strict=True)
    drawing, (ax,) = plots.figure(6.4, 3.6)
    ax.plot(counts, [1e6 * s for s in seconds], color=plots.COLORS["fastbp"], marker="o", linewidth=2)
    ax.set_xscale("log", base=4)
    ax.set_ylim(0, 1.15e6 * max(seconds))
    ax.set_xticks(counts, [f"{count:,}" for count in counts])
    ax.minorticks_off()
    ax.grid(color=plots.GRID, linewidth=0.8)
    ax.set_xlabel("networks in one call", color=plots.INK, fontsize=9)
    ax.set_ylabel("us a network", color=plots.INK, fontsize=9)
    plots.title(ax, "Cost of a network against their number", "8-16-1, batch 16, ten epochs of 256 rows")
    return plots.save(drawing, path)


def main(args):
    """Measure, print, draw: --rounds, --threads, --quick."""
    rounds, described = args.rounds or (1 if args.quick else 5), machine.describe(args.threads)
    results = []
    for case in cases()[: 2 if args.quick else None]:
        print(f"{case.name} ...", file=sys.stderr, flush=True)
        results.append(compare(case, rounds, args.threads))
    print("\n".join(report.machine_lines(described)))
    print(f"\nsamples times networks a second, median of {rounds} in turns; times: what fit_many is of it")
    print(report.table(rows(results), args.markdown))
    points = by_count(COUNTS[: 3 if args.quick else None], rounds)
    table = [("networks", "us a network"), *((f"{n:,}", f"{1e6 * s:.0f}") for n, s in points)]
    print(f"\n{report.table(table, args.markdown)}")
    content = {"machine": described, "rounds": rounds, "results": results, "counts": points}
    if not args.quick:
        content["searches"] = found = searches(max(1, rounds // 2))
        ways = next(iter(found.values()))
        table = [("12 candidates, 5 folds, 20 epochs", *ways)]
        for name, seconds in found.items():
            ours = seconds["MLPSearchCV"]
            table.append((name, *(f"{s:.2f} s, {report.times(s / ours)}" for s in seconds.values())))
        print(f"\n{report.table(table, args.markdown)}")
    written = [report.write_json(args.json or f"{args.out}/many.json", content)]
    with contextlib.suppress(ImportError):
        written.append(picture(points, f"{args.out}/many.png"))
    print(f"\nwritten: {', '.join(map(str, written))}")
    return 0
