"""Random combinations of all that a network and a trainer may have, with data to train on.

Everything is asked of a random.Random: hypothesis's, which then shrinks what fails, or a seeded one.
"""

import dataclasses
import importlib.util
from pathlib import Path

import draw
import numpy as np
import ways
from oracle import Oracle, shaken

import fastbp as fb
from fastbp.network import activations

WIDTHS = [3, 1, 2, 4, 7, 8, 9, 16, 17, 33]
KINDS = ["f4", "f8", "f2", "u1", "i1", "i4", "i8", "?"]
KINKS = {"relu": [0], "leaky_relu": [0], "prelu": [0], "selu": [0], "hardtanh": [-1, 1], "hardswish": [-3, 3]}


@dataclasses.dataclass
class Case:
    """One combination; what it makes is made anew, and alike, at each call."""

    sizes: list
    options: dict  # of the MLP
    variant: str
    loss: object
    optimizer: str
    batch: int
    training: dict  # of the Trainer
    X: np.ndarray
    y: np.ndarray
    weight: np.ndarray | None
    seed: int

    def net(self):
        net = shaken(fb.MLP(self.sizes, **self.options, seed=self.seed), np.random.default_rng(self.seed))
        rng = np.random.default_rng(self.seed + 1)
        for means, variances in zip(net.running_means, net.running_vars, strict=True):
            if means is not None:
                means[:], variances[:] = rng.standard_normal(len(means)), rng.uniform(0.5, 2, len(means))
        return net

    def trainer(self, **changed):
        optimizer = ways.OPTIMIZERS[self.optimizer]
        given = {"batch_size": self.batch, "seed": self.seed, "threads": 1} | self.training | changed
        return fb.Trainer(self.net(), self.loss, optimizer, **given)

    def __repr__(self):
        """All but the data, which follow from the seed."""
        said = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)} | {
            "X": (self.X.shape, str(self.X.dtype)),
            "y": (self.y.shape, str(self.y.dtype)),
            "weight": None if self.weight is None else self.weight.shape,
        }
        return f"Case({said})"


def case(chance, *, hidden=(0, 1, 2, 3), variants=None, dtypes=("float64", "float32"), dropout=True, rows=60):
    """A Case. chance: a random.Random. variants: of draw.py's losses; None: all."""
    seed = chance.randrange(2**31)
    rng = np.random.default_rng(seed)
    dtype = chance.choice(dtypes)
    outputs = chance.choice([3, 1, 2, 4, 5])
    many = [v for v in [*draw.VARIANTS, *draw.weighted(outputs)] if draw.fits(v, outputs)]
    variant = chance.choice([v for v in many if variants is None or v in variants])
    loss = draw.VARIANTS.get(variant) or draw.weighted(outputs)[variant]
    depth, inputs = chance.choice(hidden), chance.randrange(1, 10)
    widths = [chance.choice(WIDTHS) for _ in range(depth)]
    if chance.random() < 0.3:
        widths = widths[:1] * depth  # that skips find something
    sizes = [inputs, *widths, outputs]
    options = {"dtype": dtype} | _layers(chance, sizes, dropout)
    batch_norm = "batch" in str(options.get("norm"))
    count = chance.randrange(2 if batch_norm else 1, rows)
    batch = chance.choice([b for b in (16, 1, 2, 7, 33, 100) if not batch_norm or b > 1 and count % b != 1])
    if batch_norm and count % batch == 1:
        batch = 100
    kind = chance.choice(KINDS)
    X = _inputs(rng, count, options.get("embeddings", {}), inputs, kind)
    y = draw.targets(rng, variant, count, outputs)
    weight, by_output = None, draw.by_output(variant, outputs)
    how = chance.choice(["none", "samples", "targets", "unknown"])
    if how == "samples" or how != "none" and not by_output:
        weight = rng.uniform(0.1, 2, count)
    elif how != "none":
        weight = rng.uniform(0.1, 2, (count, y.shape[1]))
    if how == "unknown" and by_output:
        loss = dataclasses.replace(loss, ignore_nan=True)
        unknown = rng.random(y.shape) < 0.2
        unknown[:, 0] = False  # every batch knows something
        y = np.where(unknown, np.nan, y)
        weight = None
    optimizers = [
        o for o in ways.OPTIMIZERS if not o.startswith("lion") or dtype == "float64" and not batch_norm
    ]
    return Case(sizes, options, variant, loss, chance.choice(optimizers), batch,
                _training(chance, depth), X, y, weight, seed)  # fmt: skip


def _layers(chance, sizes, dropout):
    """What an MLP has beside its sizes."""
    depth, found = len(sizes) - 2, {}
    if depth:
        found["activation"] = [chance.choice(list(activations.NAMES)) for _ in range(depth)]
    if depth and chance.random() < 0.5:
        norms = [chance.choice([None, "layer", "batch"]) for _ in range(depth)]
        # less its mean a single number is 0, and what is left of its gradient is rounding
        found["norm"] = [
            None if n == "layer" and w == 1 else n for n, w in zip(norms, sizes[1:-1], strict=True)
        ]
    embedded = [c for c in range(sizes[0]) if chance.random() < 0.2]
    if embedded:
        found["embeddings"] = {
            c: (chance.choice([2, 1, 3, 5]), chance.choice([2, 1, 3, 17])) for c in embedded
        }
    width = sizes[0] - len(embedded) + sum(w for _, w in found.get("embeddings", {}).values())
    agree = [a == b for a, b in zip([width, *sizes[1:-2]], sizes[1:-1], strict=True)] if depth else []
    if any(agree) and chance.random() < 0.5:
        found["residual"] = agree
    if dropout and depth and chance.random() < 0.3:
        found["dropout"] = chance.choice([0.2, 0.5])
    if dropout and chance.random() < 0.2:
        found["input_dropout"] = 0.1
    return found


def _inputs(rng, rows, embeddings, inputs, kind):
    X = 1.5 * rng.standard_normal((rows, inputs))
    if kind not in ("f2", "f4", "f8"):
        X = np.floor(np.abs(X) * 2)
    for column, (categories, _) in embeddings.items():
        X[:, column] = rng.integers(0, min(categories, 2) if kind == "?" else categories, rows)
    return X.astype(kind)


def _training(chance, depth):
    """Options of the Trainer."""
    pool = {
        "clip_norm": 0.1, "clip_layer_norm": 0.05, "clip_value": 0.004, "l1": 0.01, "decay_bias": False,
        "max_norm": 0.8, "accumulate": 3, "ema": 0.9,
    }  # fmt: skip
    found = {k: v for k, v in pool.items() if chance.random() < 0.2}
    if "clip_norm" in found:
        found.pop("clip_layer_norm", None)
    if chance.random() < 0.2:
        found["lr_factors"] = [chance.choice([1, 0, 0.5, 2]) for _ in range(depth + 1)]
        if not any(found["lr_factors"]):
            found["lr_factors"][-1] = 1
    return found


# --- the same numbers as other things

FRAMES = ["pandas", "polars"]
LAYOUTS = ["C", "F", "rows", "columns", "negative", "list", "memmap", "read-only", "big-endian", *FRAMES]


def laid_out(values, layout, folder):
    """An array's numbers in another layout, container or byte order."""
    rows, columns = values.shape[0], int(np.prod(values.shape[1:]))
    if layout == "F":
        return np.asfortranarray(values)
    if layout == "rows":
        return np.repeat(values, 3, axis=0)[::3]
    if layout == "columns" and values.ndim == 2:
        wide = np.zeros((rows, 2 * columns + 1), values.dtype)
        wide[:, 1::2] = values
        return wide[:, 1::2]
    if layout == "negative":
        return np.ascontiguousarray(values[::-1])[::-1]
    if layout == "list":
        return values.tolist()
    if layout == "memmap":
        path = Path(folder) / f"{len(list(Path(folder).iterdir()))}.npy"
        np.save(path, values)
        return np.load(path, mmap_mode="r")
    if layout == "read-only":
        values = values.copy()
        values.flags.writeable = False
    if layout == "big-endian":
        return values.astype(values.dtype.newbyteorder(">"))
    if layout in FRAMES and importlib.util.find_spec(layout) and values.ndim == 2:
        library = __import__(layout)
        return library.DataFrame({f"x{k}": values[:, k] for k in range(columns)})
    return values


# --- training as the reference does it


def known(case):
    """(targets, weights) as the reference takes them: those that are NaN have the weight 0."""
    y, weight = case.y, case.weight
    if case.loss.ignore_nan:
        weight = (~np.isnan(y)).astype(float) if weight is None else weight
    return y, weight


def exact_gradients(oracle, case, X, rows=slice(None), seed=0, step=0, frozen=()):
    """(loss, gradients in the order of oracle.arrays) of these rows."""
    y, weight = known(case)
    name = case.loss.name
    given = draw.constants(case.loss)
    weight = None if weight is None else weight[rows]
    return oracle.gradient_arrays(X[rows], y[rows], name, seed, step, weight, frozen, **given)


def nudged(net, X, eps, rng):
    """An oracle of the network, and X, whose numbers have all been changed by eps of themselves."""
    oracle = Oracle(net)
    for array in oracle.arrays():
        array *= 1 + eps * rng.choice([-1.0, 1.0], array.shape)
    embedded = [column for column, _, _ in net.embedded]
    moved = X * (1 + eps * rng.choice([-1.0, 1.0], X.shape))
    moved[:, embedded] = X[:, embedded]
    return oracle, moved


class Exact:
    """Results in float64, and how far rounding may take them.

    nudged : the same where every parameter and input was changed by one rounding error; single : in float32
    throughout. What that changes, scaled to the dtype, shows how well the problem is posed; ours may be
    TIMES as far away.
    """

    TIMES = 200

    def __init__(self, dtype, results, nudged, single):
        self.eps, self.results, self.spreads = np.finfo(dtype).eps, _arrays(results), []
        nudged, single, share = map(_arrays, nudged), _arrays(single), self.eps / np.finfo(np.float32).eps
        nudged = list(nudged)
        for k, exact in enumerate(self.results):
            spread = [np.linalg.norm(other[k] - exact) for other in nudged]
            alone = share * np.linalg.norm(single[k] - exact)
            self.spreads.append(max([*spread, alone if np.isfinite(alone) else 0]))

    def check(self, *got, terms=1.0):
        """Each of them is near the result of that number. terms: a size of what cancels."""
        for k, (values, exact, spread) in enumerate(zip(got, self.results, self.spreads, strict=True)):
            values = np.asarray(values, float)
            assert values.shape == exact.shape
            error, size = np.linalg.norm(values - exact), np.linalg.norm(exact)
            bound = self.TIMES * (spread + self.eps * (size + terms))
            assert error <= bound, f"{k}: off by {error:.3g}, of {size:.3g}; bound {bound:.3g}"


def exact(net, X, function):
    """Exact of what a function of an oracle and X gives."""
    rng, X, dtype = np.random.default_rng(0), X.astype(float), net.dtype
    found = [function(*nudged(net, X, np.finfo(dtype).eps, rng)) for _ in range(3)]
    with np.errstate(all="ignore"):
        single = function(Oracle(net, np.float32), X.astype(np.float32))
    return Exact(dtype, function(Oracle(net), X), found, single)


def _arrays(results):
    return [np.asarray(r, float) for r in results]


REACH = {"float32": 1e-5, "float64": 1e-10}  # within which rounding may take a number over a kink


def near_a_kink(case, layers, rows=slice(None)):
    """Whether an activation or the loss has a kink where rounding decides on which side these rows are.

    layers : [{"y": what the activation is given, "a": what the layer gives}, ...].
    """
    *hidden, last = layers
    reach = REACH[case.options["dtype"]]
    for at, name in zip(hidden, case.options.get("activation", []), strict=True):
        if any(np.abs(at["y"] - k).min() < reach for k in KINKS.get(name, ())):
            return True
    y = np.where(np.isnan(case.y), 1e9, case.y) if case.loss.ignore_nan else case.y
    return draw.near_a_kink(case.loss.name, last["a"], y[rows], reach, **draw.constants(case.loss))
