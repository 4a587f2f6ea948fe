"""A fit of any network in float64 NumPy: the reference's gradients and rules, all options around them."""

import numpy as np
import ways
from cases import exact_gradients, near_a_kink

from fastbp.kernels import reference as ref


class Follower:
    """What a Trainer keeps: parameters (in an Oracle), slots, the count of updates, the average.

    steps : the number of the present batch, which decides what is dropped. near : whether any step so far was
    near a kink.
    """

    def __init__(self, case, oracle):
        self.case, self.oracle, self.options = case, oracle, case.training
        name, self.hyper = ways.hyper(ways.OPTIMIZERS[case.optimizer])
        self.rule, slots = ref.OPTIMIZERS[name]
        self.slots = [[np.zeros_like(p) for _ in slots] for p in oracle.arrays()]
        self.average = [p.copy() for p in oracle.arrays()]
        self.steps = self.updates = 0
        self.near = False
        owners = [k for k, arrays in enumerate(oracle.params) for _ in arrays]
        tables = len(oracle.arrays()) - len(owners)
        self.owner = [*owners, *[0] * tables]  # the layer that each array belongs to
        self.group = [*owners, *range(-tables, 0)]  # that is clipped together
        self.place = [i for arrays in oracle.params for i in range(len(arrays))] + [0] * tables
        factors = self.options.get("lr_factors")
        self.factors = factors or [1] * len(oracle.params)
        self.frozen = [k for k, f in enumerate(self.factors) if f == 0]

    def epoch(self, X):
        """One pass over the rows as they lie; its mean loss."""
        case, total, sums = self.case, 0.0, []
        self.steps = self.updates * self.options.get("accumulate", 1)
        starts = range(0, len(X), case.batch)
        for start in starts:
            rows = slice(start, min(start + case.batch, len(X)))
            self.steps += 1
            self.forward(X[rows], rows)
            value, gradients = exact_gradients(self.oracle, case, X, rows, case.seed, self.steps, self.frozen)
            total += value * self.share(rows)
            sums.append(gradients)
            if len(sums) == self.options.get("accumulate", 1) or start == starts[-1]:
                self.update([sum(g) / len(sums) for g in zip(*sums, strict=True)])
                sums = []
        return total / self.share(slice(None))

    def share(self, rows):
        """What a batch's loss counts for in the epoch's."""
        weight, y = self.case.weight, self.case.y[rows]
        if self.case.loss.name == "cross_entropy" and y.ndim == 1 and self.case.loss.class_weight is not None:
            own = np.array(self.case.loss.class_weight)[y]
            return (own if weight is None else own * weight[rows]).sum()
        if self.case.loss.ignore_nan:
            return (~np.isnan(y)).sum()
        return len(y) if weight is None else weight[rows].sum()

    def forward(self, X, rows):
        """The running statistics of batch norms after a step on X, which are rows of all."""
        layers = self.oracle.layers(X, self.case.seed, self.steps, self.frozen)
        self.near |= near_a_kink(self.case, layers, rows)
        for k, pair in enumerate(self.oracle.statistics):
            if pair is not None and k not in self.frozen:
                found = layers[k]["z"].mean(axis=0), layers[k]["z"].var(axis=0, ddof=1)
                for running, new in zip(pair, found, strict=True):
                    running += 0.1 * (new - running)

    def update(self, gradients):
        options, self.updates = self.options, self.updates + 1
        if "clip_norm" in options:
            gradients = _scaled(gradients, options["clip_norm"])
        for group in set(self.group) if "clip_layer_norm" in options else ():
            members = [i for i, g in enumerate(self.group) if g == group]
            short = _scaled([gradients[i] for i in members], options["clip_layer_norm"])
            for i, g in zip(members, short, strict=True):
                gradients[i] = g
        if "clip_value" in options:
            gradients = [np.clip(g, -options["clip_value"], options["clip_value"]) for g in gradients]
        for i, (p, g) in enumerate(zip(self.oracle.arrays(), gradients, strict=True)):
            if self.owner[i] in self.frozen:
                continue
            hyper = self.hyper | {"lr": self.hyper["lr"] * self.factors[self.owner[i]]}
            if self.place[i] == 0 or options.get("decay_bias", True):
                g = g + options.get("l1", 0) * np.sign(p)
            elif "weight_decay" in hyper:
                hyper["weight_decay"] = 0.0
            self.rule(p, g, *self.slots[i], step=self.updates, **hyper)
            if "max_norm" in options and self.place[i] == 0 and self.group[i] >= 0:
                norm = np.sqrt((p**2).sum(axis=0))
                p *= np.where(norm > options["max_norm"], options["max_norm"] / (norm + 1e-7), 1)
        share = 1 - options.get("ema", 0) * (self.updates > 1)
        for mean, p in zip(self.average, self.oracle.arrays(), strict=True):
            mean += share * (p - mean)


def _scaled(gradients, limit):
    norm = np.sqrt(sum((g * g).sum() for g in gradients))
    return [g * min(1, limit / (norm + 1e-6)) for g in gradients]
