"""Single kernels on one core: rates of the products, nanoseconds of activations, losses and updates."""

import functools

import numpy as np
from numba import njit

import fastbp as fb
from fastbp import losses
from fastbp.kernels import codes
from fastbp.kernels.cpu import dense, program
from fastbp.kernels.cpu import losses as loss_kernels
from fastbp.kernels.cpu.records import Matrix, RowSums, Targets
from fastbp.kernels.cpu.simd import get, lanes_of, pointer, put
from fastbp.network.layout import arena, leading_dimension

from ..steps import report
from .turns import best

NUMBERS, ROWS, TIMES = 1024, 256, 100  # of an activation or update; of a loss; calls a run
OUTPUTS = (1, 2, 3, 10, 16, 32, 100, 1000)
LOSSES = {
    "cross_entropy": losses.CrossEntropy(),
    "smoothed": losses.CrossEntropy(label_smoothing=0.1),
    "bce": losses.BCEWithLogits(),
    "focal, labels": losses.Focal(),
    "hinge, labels": losses.Hinge(),
    "mse": losses.MSE(),
    "huber": losses.Huber(),
    "quantile": losses.Quantile(),
    "log_cosh": losses.LogCosh(),
    "poisson": losses.PoissonNLL(),
    "gaussian": losses.GaussianNLL(),
    "cosine": losses.Cosine(),
}
RULES = {
    "SGD": codes.SGD,
    "SGD, momentum": codes.SGD_MOMENTUM,
    "Adam": codes.ADAM,
    "AdamW": codes.ADAM + codes.DECAY,
    "amsgrad": codes.AMSGRAD,
    "NAdam": codes.NADAM,
    "RAdam": codes.RADAM,
    "Adamax": codes.ADAMAX,
    "RMSprop": codes.RMSPROP,
    "Adagrad": codes.ADAGRAD,
    "Adadelta": codes.ADADELTA,
    "Lion": codes.LION,
}


@njit
def _activate(times, code, source, a, slope):
    for _ in range(times):
        for i in range(a.size):  # in place: without fresh numbers it would run into denormals
            put(pointer(a), i, get(pointer(source), i))
        dense.activate(code, 1, a.size // lanes_of(pointer(a)), Matrix(pointer(a), 0), pointer(slope), 1)


@njit
def _lose(times, code, outputs, targets, numbers, z, t, delta, loss, scale):
    for _ in range(times):
        loss_kernels.loss_rows(code, loss.size, outputs, pointer(numbers), Matrix(pointer(z), z.shape[1]),
                               Targets(pointer(t), t.shape[1], targets), pointer(delta),
                               RowSums(pointer(loss), pointer(scale)))  # fmt: skip


@njit
def _update(times, code, grad, w, slots, constants):
    for _ in range(times):
        dense.update(code, 1, w.size // lanes_of(pointer(w)), Matrix(pointer(grad), 0), Matrix(pointer(w), 0),
                     Matrix(pointer(slots), w.size), pointer(constants))  # fmt: skip


def _draw(size, dtype, rng, scale=1.0):
    array = arena(size, dtype)
    array[:] = scale * rng.standard_normal(size)
    return array


def activations(rounds, dtype="float32"):
    """{name: ns for 16 numbers in the first-level cache}, with the slope where it is kept."""
    rng = np.random.default_rng(0)
    source, a, slope = (_draw(NUMBERS, dtype, rng, 2.0) for _ in range(3))
    works = {
        name: lambda code=code: _activate(TIMES, code, source, a, slope)
        for name, code in codes.ACTIVATIONS.items()
    }
    found = best(works, rounds)
    copied = found.pop("identity")
    return {name: 16e9 * (seconds - copied) / TIMES / NUMBERS for name, seconds in found.items()}


def loss_costs(outputs, rounds, dtype="float32"):
    """{name: ns a row of so many outputs}, gradient included."""
    rng, works = np.random.default_rng(0), {}
    for name, loss in LOSSES.items():
        try:
            loss.check(outputs)
            labels = loss.code(outputs) in codes.LABELS
            width = outputs // 2 if name == "gaussian" else outputs
            y = rng.integers(0, outputs, ROWS) if labels else rng.integers(0, 2, (ROWS, width)).astype(dtype)
            code, y = loss.targets(y, outputs)
        except ValueError:
            continue
        ld = leading_dimension(outputs, np.dtype(dtype).itemsize)
        z, delta, t = (_draw(ROWS * ld, dtype, rng).reshape(ROWS, ld) for _ in range(3))
        t[:, : y.shape[1]] = y
        numbers = arena(codes.LOSS_SCALARS + ld, dtype)
        numbers[: codes.LOSS_SCALARS + outputs] = loss.numbers(outputs)
        row, scale = arena(ROWS, dtype), arena(ROWS, dtype)
        scale[:] = 1
        args = (code, outputs, y.shape[1], numbers, z, t, delta, row, scale)
        works[name] = lambda args=args: _lose(TIMES // 10, *args)
    return {name: 10e9 * seconds / TIMES / ROWS for name, seconds in best(works, rounds).items()}


def updates(rounds, dtype="float32"):
    """{rule: ns for 16 parameters in the first-level cache}"""
    rng, works = np.random.default_rng(0), {}
    constants = np.full(codes.CONSTANTS, 0.1, dtype)
    constants[codes.C_LR], constants[codes.C_DECAY] = 1e-6, 1e-6
    for name, code in RULES.items():
        grad, w = _draw(NUMBERS, dtype, rng), _draw(NUMBERS, dtype, rng)
        slots = _draw(max(1, codes.SLOTS[code]) * NUMBERS, dtype, rng) ** 2
        works[name] = lambda args=(code, grad, w, slots, constants): _update(TIMES, *args)
    return {name: 16e9 * s / TIMES / NUMBERS for name, s in best(works, rounds).items()}


def products(seconds):
    """The table of GFLOP/s of the three products, from ``Trainer.explain``."""
    small = fb.Trainer(fb.MLP([4, 64, 64, 2]), batch_size=64, threads=1).explain(seconds)
    large = fb.Trainer(fb.MLP([784, 512, 512, 10]), batch_size=128, threads=1).explain(seconds)
    rates = [{r.name: r.flops / r.seconds / 1e9 for r in e.rows if r.flops} for e in (small, large)]
    table = [("GFLOP/s", "64 x 64, batch 64", "784 x 512, batch 128", "512 x 512, batch 128")]
    for name in ("forward", "dX", "dW + update"):
        found = rates[0].get(f"layer 1 {name}"), rates[1].get(f"layer 0 {name}"), rates[1][f"layer 1 {name}"]
        table.append((name, *("" if rate is None else f"{rate:.0f}" for rate in found)))
    return table, (small, large)


def main(args):
    """Measure and print: --rounds, --quick, --markdown."""
    rounds = args.rounds or (3 if args.quick else 40)
    program.load(np.dtype("float32"))
    show = functools.partial(report.table, markdown=args.markdown)
    table, explained = products(0.2 if args.quick else 3.0)
    print(f"float32, one core, the fastest of {rounds}; peak {explained[1].peak:.0f} GFLOP/s\n")
    print(show(table), *explained, sep="\n\n")
    for text, found in (("an activation, ns for 16 numbers", activations(rounds)),
                        ("an update, ns for 16 parameters", updates(rounds))):  # fmt: skip
        ordered = sorted(found.items(), key=lambda pair: pair[1])
        print(f"\n{text}\n{show([('name', 'ns'), *((name, f'{ns:.1f}') for name, ns in ordered)])}")
    rows = [("outputs", *LOSSES)]
    for outputs in OUTPUTS[:: 3 if args.quick else 1]:
        costs = loss_costs(outputs, rounds)
        rows.append((str(outputs), *(f"{costs[name]:.3g}" if name in costs else "" for name in LOSSES)))
    print(f"\na loss with its gradient, ns a row\n{show(rows)}")
    return 0
