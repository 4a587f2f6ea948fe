"""Kernels called on plain arrays: pads them as the arenas are padded, poisons what is to be written."""

import numpy as np
from numba import njit

from fastbp.kernels import random
from fastbp.kernels.cpu import data, dense, losses, program
from fastbp.kernels.cpu.plan import rows_from
from fastbp.kernels.cpu.records import (
    Area,
    Bypass,
    Matrix,
    Piece,
    Room,
    RowSums,
    Rule,
    Slice,
    Targets,
    Weights,
)
from fastbp.kernels.cpu.simd import get, lanes_of, pointer, put, shift
from fastbp.network.layout import arena, leading_dimension

DTYPES = ["float32", "float64"]
TOLERANCE = {"float32": 2e-6, "float64": 1e-12}  # norm-wise, against float64


def load(dtype):
    """Bind the functions written as IR; needed before any kernel is called."""
    program.load(np.dtype(dtype))


def padded(values, dtype, padding=0.0):
    """A copy of a 2-D array in the middle of an aligned, padded one; returns the padded array."""
    rows, columns = values.shape
    ld = leading_dimension(columns, np.dtype(dtype).itemsize)
    block = arena(rows * ld, dtype).reshape(rows, ld)
    block[:] = padding
    block[:, :columns] = values
    return block


def poisoned(rows, columns, dtype):
    """An aligned, padded array of NaN to be overwritten."""
    return padded(np.full((rows, columns), np.nan), dtype, np.nan)


def relative(got, exact, typical=0.0):
    """||got - exact|| / max(||exact||, ||typical||), NaN and inf never small.

    typical: the size that sums of these terms have when they do not happen to cancel (``sum_size``);
    it matters for results of a few numbers only, where no float32 sum could be relatively exact.
    """
    got, exact = np.asarray(got, np.float64), np.asarray(exact, np.float64)
    assert got.shape == exact.shape
    size = max(np.linalg.norm(exact), np.linalg.norm(typical))
    error = np.linalg.norm(got - exact)
    return error / size if size else error


def sum_size(a, b):
    """Root-mean-square size of the sums in a @ b, were their terms' signs random."""
    return np.sqrt(np.square(a.astype(float)) @ np.square(b.astype(float)))


@njit
def matrix(array):
    """A padded array as kernels take it."""
    return Matrix(pointer(array), array.shape[1])


@njit
def weights(w, fan_in, fan_out):
    return Weights(pointer(w), w.shape[1], fan_in, fan_out)


@njit
def forward(out, slope, keep, x, w, depth, code, row, last, column, end):
    dense.dense_forward(matrix(out), pointer(slope), keep, matrix(x), weights(w, depth, 0), code,
                        Area(Slice(row, last), Slice(column, end)))  # fmt: skip


@njit
def backward(out, a, delta, w, depth, inner, code, row, last, column, end, panel, tile, zeros):
    nothing = pointer(zeros)
    dense.dense_backward(matrix(out), pointer(a), matrix(delta), weights(w, inner, depth), code,
                         Area(Slice(row, last), Slice(column, end)),
                         Room(pointer(panel), pointer(tile), nothing, nothing, nothing),
                         Bypass(0, Matrix(nothing, 0), 0, nothing))  # fmt: skip


@njit
def rule(w, slots, code, constants):
    return Rule(code, Matrix(pointer(slots), w.size), 2, pointer(constants), pointer(constants))


@njit
def weight_update(w, slots, x, delta, batch, inner, outer, code, row, last, column, end, constants,
                  tile, zeros, one):  # fmt: skip
    dense.dense_update(weights(w, inner, outer), rule(w, slots, code, constants), matrix(x),
                       matrix(delta), Area(Slice(row, last), Slice(column, end)),
                       Piece(batch, dense.WHOLE, False),
                       Room(pointer(w), pointer(tile), pointer(w), pointer(one), pointer(zeros)))  # fmt: skip


@njit
def weight_update_by_pieces(w, slots, x, delta, batch, inner, outer, code, row, last, column, end, constants,
                            tile, zeros, one, sums, packs, most):  # fmt: skip
    """The same, the batch at most ``most`` rows at a time, their deltas packed."""
    start = 0
    while start < batch:
        count = min(batch - start, most)
        piece = dense.FIRST if start == 0 else dense.MORE
        if start + count == batch:
            piece = dense.WHOLE if start == 0 else dense.LAST
        d = rows_from(matrix(delta), start)
        dense.pack_panels(pointer(packs), d, count, Slice(column, end))
        dense.dense_update(weights(w, inner, outer), rule(w, slots, code, constants),
                           rows_from(matrix(x), start), d, Area(Slice(row, last), Slice(column, end)),
                           Piece(count, piece, True),
                           Room(pointer(packs), pointer(tile), pointer(sums), pointer(one),
                                pointer(zeros)))  # fmt: skip
        start += count


@njit
def apply_update(code, gradient, w, slots, constants):
    """The update of one long row."""
    dense.update(code, 1, w.size // lanes_of(pointer(w)), Matrix(pointer(gradient), 0), Matrix(pointer(w), 0),
                 Matrix(pointer(slots), w.size), pointer(constants))  # fmt: skip


@njit
def loss_rows(code, outputs, numbers, z, t, targets, delta, loss, scale):
    return losses.loss_rows(code, loss.size, outputs, pointer(numbers), matrix(z),
                            Targets(pointer(t), t.shape[1], targets), pointer(delta),
                            RowSums(pointer(loss), pointer(scale)))  # fmt: skip


@njit
def link_rows(code, outputs, numbers, z, buffer, out):
    losses.link_rows(code, z.shape[0], outputs, pointer(numbers), matrix(z), pointer(buffer), matrix(out))


@njit
def activate(code, a):
    lanes = lanes_of(pointer(a))
    dense.activate(code, 1, a.size // lanes, Matrix(pointer(a), 0), pointer(a), 0)


@njit
def sums(x, out):
    losses.sum_row(x.size, pointer(x), pointer(out))
    losses.square_sum_row(x.size, pointer(x), shift(pointer(out), 1), 1.0)


@njit
def convert(dtype, count, source, step, out):
    return data.convert_row(dtype, count, source, step, pointer(out))


@njit
def scatter(dtype, count, stored, columns, values, out):
    return data.scatter_row(dtype, count, stored, columns, values, pointer(out))


@njit
def shuffle(order, seed, stream):
    random.shuffle(order, seed, stream)


@njit
def swap_ends(a):
    """Exercises get and put: swaps the first and last element."""
    p = pointer(a)
    first = get(p, 0)
    put(p, 0, get(p, a.size - 1))
    put(p, a.size - 1, first)
