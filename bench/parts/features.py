"""What each feature costs beside the plain step: Adam, relu, cross-entropy; in turns, in one process."""

import time
from dataclasses import dataclass, field

import numpy as np

import fastbp as fb
from fastbp import losses, schedules
from fastbp.kernels import codes
from fastbp.network import activations

from ..steps import report

SIZES, SAMPLES = (784, 256, 256, 10), 640
BATCHES = (128, 16)  # mostly arithmetic; mostly the update
PLAIN = "Adam"


@dataclass(frozen=True)
class Feature:
    """A row: its name and what it changes of the plain trainer.

    options, net, fit : arguments of Trainer, MLP and fit; set_up : called with the trainer before all.
    """

    name: str
    options: dict = field(default_factory=dict)
    net: dict = field(default_factory=dict)
    fit: dict = field(default_factory=dict)
    set_up: object = None

    def trainer(self, sizes, batch, threads):
        """A new trainer of this feature."""
        options = {"optimizer": fb.Adam(), "batch_size": batch, "threads": threads, "seed": 0}
        net = fb.MLP(sizes, **{"seed": 0} | made(self.net))
        trainer = fb.Trainer(net, **options | made(self.options))
        if self.set_up:
            self.set_up(trainer)
        return trainer


def made(arguments):
    """Arguments with what functions among them return: the user's own are registered when they are made."""
    return {name: value() if callable(value) else value for name, value in arguments.items()}


def own_activation():
    return fb.activation(lambda z: z / (1 + abs(z)), name="own_softsign")


def own_loss():
    return fb.loss(lambda z, t: (z - t) ** 2, name="own_squares")


def hook(trainer):
    """Python between the gradients and the update of every step, which does nothing."""
    trainer.gradient_hook = lambda gradients: None


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
ACTIVATIONS = [
    *(Feature(name, net={"activation": name}) for name in activations.NAMES),
    Feature("your own: softsign", net={"activation": own_activation}),
]
LOSSES = [
    Feature("CrossEntropy", {"loss": losses.CrossEntropy()}),
    Feature("CrossEntropy, smoothed", {"loss": losses.CrossEntropy(label_smoothing=0.1)}),
    Feature("CrossEntropy, weights", {"loss": losses.CrossEntropy(class_weight=range(1, 11))}),
    Feature("BCEWithLogits", {"loss": losses.BCEWithLogits()}),
    Feature("BCEWithLogits, weights", {"loss": losses.BCEWithLogits(range(1, 11))}),
    Feature("Focal, labels", {"loss": losses.Focal()}),
    Feature("Focal, multi-label", {"loss": losses.Focal(multi_label=True)}),
    Feature("Hinge, labels", {"loss": losses.Hinge()}),
    Feature("Hinge, multi-label", {"loss": losses.Hinge(multi_label=True)}),
    *(Feature(kind.__name__, {"loss": kind()}) for kind in (
        losses.MSE, losses.MAE, losses.Huber, losses.LogCosh, losses.PoissonNLL, losses.GammaNLL,
        losses.GaussianNLL, losses.Cosine)),
    Feature("Quantile, two", {"loss": losses.Quantile([0.1, 0.9])}),
    Feature("your own: squares", {"loss": own_loss}),
]  # fmt: skip
TRAINING = [
    Feature("sample_weight", fit={"sample_weight": True}),
    Feature("validation on a fifth", fit={"validation_data": True}),
    Feature("validation, f1 and top_3", fit={"validation_data": True, "metrics": ["f1", "top_3"]}),
    Feature(
        "callbacks",
        fit={"callbacks": [fb.TerminateOnNaN(), fb.LambdaCallback(on_epoch_end=lambda epoch, logs: None)]},
    ),
    Feature("freeze(0)", set_up=lambda trainer: trainer.net.freeze(0)),
    Feature("gradient_hook", set_up=hook),
    Feature("LBFGS, an iteration", {"optimizer": fb.LBFGS()}),
]
PARTS = {
    "optimizers": OPTIMIZERS,
    "options": OPTIONS,
    "training": TRAINING,
    "activations": ACTIVATIONS,
    "losses": LOSSES,
}
FEATURES = [feature for part in PARTS.values() for feature in part]


def targets(rng, loss, rows, outputs):
    """Targets that a loss takes."""
    if isinstance(loss, (losses.BCEWithLogits, losses.Focal, losses.Hinge)) and (
        loss.code(outputs) not in codes.LABELS
    ):
        return rng.integers(0, 2, (rows, outputs))
    if loss.code(outputs) in codes.LABELS:
        return rng.integers(0, outputs, rows)
    columns = {"gaussian_nll": 2, "quantile": 2}.get(loss.name, 1)
    return rng.uniform(0.1, 2, (rows, outputs // columns)).astype("float32")


class Subject:
    """The trainer of a feature with its data: ``epoch()`` trains one and returns the seconds."""

    def __init__(self, feature, sizes, samples, batch, threads):
        rng = np.random.default_rng(0)
        self.trainer = feature.trainer(sizes, batch, threads)
        self.X = rng.standard_normal((samples, sizes[0]), np.float32)
        self.y = targets(rng, self.trainer.loss, samples, sizes[-1])
        self.fit = dict(feature.fit)
        if "sample_weight" in self.fit:
            self.fit["sample_weight"] = rng.uniform(0.5, 2, samples)
        if "validation_data" in self.fit:
            self.fit["validation_data"] = self.X[: samples // 5], self.y[: samples // 5]

    def epoch(self):
        start = time.perf_counter()
        self.trainer.fit(self.X, self.y, verbose=0, **self.fit)
        return time.perf_counter() - start


def measure(features, rounds, threads, batch, sizes=SIZES, samples=SAMPLES):
    """{name: (seconds a step, that over the plain step's)}, of the fastest of ``rounds`` epochs each.

    The plain trainer and that of the feature take turns: a core's clock and its neighbours change within a
    second. Only these two, so that the caches hold as much of one as of the other.
    """
    steps, plain = -(-samples // batch), Subject(OPTIMIZERS[0], sizes, samples, batch, threads)
    found = {}
    for feature in features:
        subject = Subject(feature, sizes, samples, batch, threads)
        subject.epoch()
        pairs = [(subject.epoch(), plain.epoch()) for _ in range(rounds)]
        own, other = np.min(pairs, axis=0)
        found[feature.name] = own / steps, own / other
    return found


def rows(found):
    """The table of {batch: what ``measure`` found}."""
    table = [("feature", *(f"batch {batch}, plain = 1" for batch in found))]
    names = next(iter(found.values()))
    for name in names:
        pairs = [measured[name] for measured in found.values()]
        table.append((name, *(f"{ratio:.2f} ({report.duration(1e6 * step)})" for step, ratio in pairs)))
    return table


def main(args):
    """Measure and print: --rounds, --threads, --quick, --markdown; --cases: parts of the table."""
    names = list(PARTS) if args.cases == "six" else args.cases.split(",")  # six: as by default
    for name in names:
        if name not in PARTS:
            raise ValueError(f"cases: got {name!r}, takes {', '.join(PARTS)}")
    rounds = args.rounds or (3 if args.quick else 100)
    sizes, samples = ((64, 32, 32, 10), 1280) if args.quick else (SIZES, SAMPLES)
    what = f"{'-'.join(map(str, sizes))}, threads: {args.threads}"
    print(f"{what}; a step, the fastest of {rounds} epochs in turns")
    for name in names:
        found = {
            batch: measure(PARTS[name], rounds, args.threads, batch, sizes, samples) for batch in BATCHES
        }
        print(f"\n{name}\n{report.table(rows(found))}", flush=True)
        if args.markdown:
            print("\n" + report.table(rows(found), markdown=True))
    return 0
