"""The workloads: networks, batches, synthetic data that can be learnt, and the arithmetic of a step."""

import fnmatch
import math
from dataclasses import asdict, dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Case:
    """A network and how it is trained.

    sizes: inputs, hidden widths, outputs; batch: samples a step; steps: steps an epoch, all of them
    whole batches; activation: of the hidden layers; loss: "cross_entropy" or "mse"; optimizer:
    "adam" (torch's defaults but lr) or "sgd" (without momentum).
    """

    name: str
    sizes: tuple
    batch: int
    steps: int
    activation: str = "relu"
    loss: str = "cross_entropy"
    optimizer: str = "adam"
    lr: float = 1e-3

    @property
    def samples(self):
        return self.batch * self.steps

    @property
    def layers(self):
        return list(zip(self.sizes[:-1], self.sizes[1:], strict=True))

    @property
    def parameters(self):
        return sum((i + 1) * o for i, o in self.layers)

    @property
    def multiply_adds(self):
        """Of a step: forward and dW for every layer, dX for every layer but the first."""
        products = [i * o for i, o in self.layers]
        return self.batch * (3 * sum(products) - products[0])

    @property
    def gflop(self):
        """Of a step, at two operations a multiply-add; bias, activation, update are not counted."""
        return 2e-9 * self.multiply_adds

    @property
    def step_bytes(self):
        """That a step moves if nothing but the batch's activations stays in a cache, float32.

        Parameters and the optimizer's slots are read and written once, the samples read once.
        """
        arrays = {"adam": 3, "sgd": 1}[self.optimizer]
        return 4 * (2 * arrays * self.parameters + self.batch * self.sizes[0])

    @property
    def shape(self):
        """The network in short, "784-128-10, batch 128"."""
        return f"{'-'.join(map(str, self.sizes))}, batch {self.batch}"

    def data(self, seed=0):
        """X (samples, inputs) float32; y (samples,) int64 labels, or (samples, outputs) float32.

        A random linear teacher with noise: losses fall, but never to zero.
        """
        rng = np.random.default_rng([seed, 1])
        X = rng.standard_normal((self.samples, self.sizes[0]), np.float32)
        teacher = rng.standard_normal((self.sizes[0], self.sizes[-1]), np.float32)
        z = X @ (teacher / np.float32(math.sqrt(self.sizes[0])))
        z += 0.3 * rng.standard_normal(z.shape, np.float32)
        return X, (np.tanh(z) if self.loss == "mse" else z.argmax(axis=1))

    def weights(self, seed=0):
        """[(W, b), ...]: what every peer starts from, (fan_in, fan_out) and (fan_out,) float32."""
        rng = np.random.default_rng([seed, 2])
        return [
            (
                rng.standard_normal((i, o), np.float32) * np.float32(math.sqrt(2 / i)),
                0.1 * rng.standard_normal(o, np.float32),
            )
            for i, o in self.layers
        ]

    def describe(self):
        """A dict for JSON."""
        return asdict(self) | {
            "parameters": self.parameters,
            "gflop": self.gflop,
            "step_bytes": self.step_bytes,
        }


SIX = (
    Case("tiny", (4, 64, 64, 2), batch=64, steps=256),
    Case("digits", (64, 100, 10), batch=32, steps=256),
    Case("tab", (30, 128, 64, 2), batch=256, steps=128),
    Case("mnist", (784, 128, 10), batch=128, steps=64),
    Case("keras", (784, 512, 512, 10), batch=128, steps=32),
    Case("wide", (1024, 1024, 1024, 10), batch=256, steps=8),
)


def _variants():
    cases = {case.name: case for case in SIX}
    changes = {
        "sgd": {"optimizer": "sgd", "lr": 1e-2},
        "tanh": {"activation": "tanh"},
        "gelu": {"activation": "gelu"},
        "mse": {"loss": "mse"},
        "b8": {"batch": 8, "steps": 256},
        "b4096": {"batch": 4096, "steps": 2},
    }
    for suffix, change in changes.items():
        for name in ("digits", "mnist", "keras"):
            case = replace(cases[name], name=f"{name}-{suffix}", **change)
            # keras with a batch of 8 is chaotic: after 32 steps rounding tells the peers apart
            yield replace(case, steps=32) if case.name == "keras-b8" else case
    yield Case("odd", (37, 113, 61, 7), batch=100, steps=256)


VARIANTS = tuple(_variants())


def select(patterns):
    """Cases by comma-separated names or patterns: "six", "variants", "all", "mnist*".

    Raises ValueError for a pattern without a case.
    """
    groups = {"six": SIX, "variants": VARIANTS, "all": SIX + VARIANTS}
    chosen = {}
    for pattern in patterns.split(","):
        found = groups.get(pattern) or [
            case for case in SIX + VARIANTS if fnmatch.fnmatchcase(case.name, pattern)
        ]
        if not found:
            names = ", ".join([*groups, *(case.name for case in SIX + VARIANTS)])
            raise ValueError(f"cases: got {pattern!r}, takes {names}, or patterns such as 'mnist*'")
        chosen |= {case.name: case for case in found}
    return list(chosen.values())
