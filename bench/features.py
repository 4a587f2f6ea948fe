"""What each feature adds to a training step, beside the plain step with Adam: in turns, in one process."""

import time
from dataclasses import dataclass, field

import numpy as np

import fastbp as fb
from fastbp import schedules

from . import report

SIZES, SAMPLES = (784, 256, 256, 10), 3840
BATCHES = (128, 16)  # mostly arithmetic; mostly the update
PLAIN = "Adam"


@dataclass(frozen=True)
class Feature:
    """A row: its name and what it changes of the plain trainer (arguments of Trainer)."""

    name: str
    options: dict = field(default_factory=dict)


OPTIMIZERS = [
    Feature(PLAIN),
    Feature("SGD", {"optimizer": fb.SGD()}),
    Feature("SGD, momentum", {"optimizer": fb.SGD(momentum=0.9)}),
    Feature("AdamW", {"optimizer": fb.AdamW()}),
    Feature("Adam, amsgrad", {"optimizer": fb.Adam(amsgrad=True)}),
    Feature("NAdam", {"optimizer": fb.NAdam()}),
    Feature("RAdam", {"optimizer": fb.RAdam()}),
    Feature("Adamax", {"optimizer": fb.Adamax()}),
    Feature("RMSprop", {"optimizer": fb.RMSprop(1e-3)}),
    Feature("RMSprop, centered, momentum", {"optimizer": fb.RMSprop(1e-3, momentum=0.9, centered=True)}),
    Feature("Adagrad", {"optimizer": fb.Adagrad()}),
    Feature("Adadelta", {"optimizer": fb.Adadelta()}),
    Feature("Lion", {"optimizer": fb.Lion()}),
]
OPTIONS = [
    Feature("schedule", {"schedule": schedules.Cosine()}),
    Feature("schedule of lr and momentum", {"schedule": schedules.OneCycle()}),
    Feature("l1", {"l1": 1e-5}),
    Feature("clip_value", {"clip_value": 1.0}),
    Feature("lr_factors", {"lr_factors": (0.5, 1.0, 2.0)}),
    Feature("AdamW, decay_bias=False", {"optimizer": fb.AdamW(), "decay_bias": False}),
    Feature("max_norm", {"max_norm": 3.0}),
    Feature("ema", {"ema": 0.999}),
    Feature("clip_norm", {"clip_norm": 1.0}),
    Feature("clip_layer_norm", {"clip_layer_norm": 1.0}),
    Feature("accumulate=4", {"accumulate": 4}),
]
FEATURES = OPTIMIZERS + OPTIONS


def measure(features, rounds, threads, batch, sizes=SIZES, samples=SAMPLES):
    """{name: (seconds a step, that over the plain step's)}, medians of ``rounds`` epochs.

    Before each epoch one of the plain trainer is timed: a core's clock changes within a second.
    """
    rng = np.random.default_rng(0)
    X, steps = rng.standard_normal((samples, sizes[0]), np.float32), -(-samples // batch)
    y = rng.integers(0, sizes[-1], len(X))
    trainers = {}
    for feature in features:
        options = {
            "optimizer": fb.Adam(),
            "batch_size": batch,
            "threads": threads,
            "seed": 0,
        } | feature.options
        trainers[feature.name] = fb.Trainer(fb.MLP(sizes, seed=0), **options)
        trainers[feature.name].fit(X, y, verbose=0)
    plain, found = trainers[PLAIN], {name: [] for name in trainers}
    for _ in range(rounds):
        for name, trainer in trainers.items():
            before, now = _epoch(plain, X, y), _epoch(trainer, X, y)
            found[name].append((now / steps, now / before))
    return {name: tuple(np.median(pairs, axis=0)) for name, pairs in found.items()}


def _epoch(trainer, X, y):
    start = time.perf_counter()
    trainer.fit(X, y, verbose=0)
    return time.perf_counter() - start


def rows(found):
    """The table of {batch: what ``measure`` found}."""
    table = [("feature", *(f"batch {batch}, plain = 1" for batch in found))]
    names = next(iter(found.values()))
    for name in names:
        pairs = [measured[name] for measured in found.values()]
        table.append((name, *(f"{ratio:.2f} ({report.duration(1e6 * step)})" for step, ratio in pairs)))
    return table


def main(args):
    """Measure and print: --rounds, --threads, --quick, --markdown."""
    rounds = args.rounds or (3 if args.quick else 15)
    sizes, samples = ((64, 32, 32, 10), 1280) if args.quick else (SIZES, SAMPLES)
    found = {batch: measure(FEATURES, rounds, args.threads, batch, sizes, samples) for batch in BATCHES}
    print(f"{'-'.join(map(str, sizes))}, threads: {args.threads}; a step, median of {rounds} epochs in turns")
    print(report.text_table(rows(found)))
    if args.markdown:
        print("\n" + report.markdown_table(rows(found)))
    return 0
