"""Batch norm's statistics by columns; gains and shifts of norms, slopes of prelu. Rows are in layers.py.

A block is PATCH_COLUMNS columns wide and sums them PATCH_ROWS rows at a time: every sum has one order. Sums
over the batch are float64's, since it may be long; memory is what these kernels wait for.
"""

import math

from numba import float64

from .. import codes
from ..codes import DEVICE
from .device import cuda, kernel
from .folds import PATCH, PATCH_COLUMNS, PATCH_ROWS, fold_column
from .updates import constants_of


def build(names):
    """{name: kernel} for a namespace of scalar.functions and updates.constants."""
    real, update_weight = names["real"], names["update_weight"]
    one, epsilon, momentum = real(1), real(codes.NORM_EPS), real(codes.MOMENTUM)

    @kernel
    def batch_statistics(mem, table, index):
        """Mean, variance and 1 / deviation of every column: the batch's, or the running ones."""
        shared = cuda.shared.array(PATCH, float64)
        tid = cuda.threadIdx.x
        this = DEVICE + codes.HEADER + index * codes.LAYER_COLUMNS
        c, ld = cuda.blockIdx.x * PATCH_COLUMNS + tid % PATCH_COLUMNS, table[this + codes.L_LDA]
        inside = c < table[this + codes.L_FAN_OUT]
        if table[codes.G_MODE] <= codes.GRADIENTS and table[this + codes.L_FROZEN] == 0:
            rows = table[codes.G_ROWS] if inside else 0
            at, total, count = table[this + codes.L_A] + c, 0.0, float(table[codes.G_ROWS])
            for r in range(tid // PATCH_COLUMNS, rows, PATCH_ROWS):
                total += float(mem[at + r * ld])
            mean = real(fold_column(shared, tid, total) / count)
            total = 0.0
            for r in range(tid // PATCH_COLUMNS, rows, PATCH_ROWS):
                off = float(mem[at + r * ld] - mean)
                total += off * off
            variance = real(fold_column(shared, tid, total) / count)
        else:
            running = table[this + codes.L_RUNNING] + (c if inside else 0)
            mean, variance = mem[running], mem[running + table[this + codes.L_LDW]]
        if inside and tid < PATCH_COLUMNS:
            stat = table[this + codes.L_STAT] + c
            mem[stat + codes.N_MEAN * ld] = mean
            mem[stat + codes.N_VARIANCE * ld] = variance
            mem[stat + codes.N_INVERSE * ld] = one / real(math.sqrt(variance + epsilon))

    @kernel
    def batch_norm_backward(mem, table, index):
        """delta = gain inverse (grad - mean(grad) - hat mean(grad hat)); hat *= grad, for the gain.

        The means are over the batch; those of a frozen layer count as 0: its statistics are constants.
        """
        shared = cuda.shared.array(PATCH, float64)
        tid = cuda.threadIdx.x
        this = DEVICE + codes.HEADER + index * codes.LAYER_COLUMNS
        c, ld = cuda.blockIdx.x * PATCH_COLUMNS + tid % PATCH_COLUMNS, table[this + codes.L_LDA]
        rows, count = 0, float(table[codes.G_ROWS])
        if c < table[this + codes.L_FAN_OUT]:
            rows = table[codes.G_ROWS]
        grad, hat, delta = (
            table[this + codes.L_SLOPE] + c,
            table[this + codes.L_HAT] + c,
            table[this + codes.L_DELTA] + c,
        )
        some, both = 0.0, 0.0
        if table[this + codes.L_FROZEN] == 0:
            for r in range(tid // PATCH_COLUMNS, rows, PATCH_ROWS):
                some += float(mem[grad + r * ld])
                both += float(mem[grad + r * ld] * mem[hat + r * ld])
            some = fold_column(shared, tid, some)
            both = fold_column(shared, tid, both)
        mean, product = real(some / count), real(both / count)
        if rows == 0:
            return
        gain = table[this + codes.L_W] + (table[this + codes.L_FAN_IN] + 1) * table[this + codes.L_LDW] + c
        factor = mem[table[this + codes.L_STAT] + codes.N_INVERSE * ld + c] * mem[gain]
        for r in range(tid // PATCH_COLUMNS, rows, PATCH_ROWS):
            g, value = mem[grad + r * ld], mem[hat + r * ld]
            mem[delta + r * ld] = (g - mean - value * product) * factor
            mem[hat + r * ld] = value * g

    @kernel
    def vector_update(mem, table, index):
        """Gradients of what is behind the biases, sums over the batch, and their update: gain and shift of a
        norm (of hat, times the gradient, and of the gradient), prelu's slopes."""
        shared = cuda.shared.array(PATCH, float64)
        tid = cuda.threadIdx.x
        this = DEVICE + codes.HEADER + index * codes.LAYER_COLUMNS
        if table[codes.G_STOPPED] != 0:
            return
        c, ld = cuda.blockIdx.x * PATCH_COLUMNS + tid % PATCH_COLUMNS, table[this + codes.L_LDA]
        rows = table[codes.G_ROWS] if c < table[this + codes.L_FAN_OUT] else 0
        first, ldw = table[this + codes.L_W] + c, table[this + codes.L_LDW]
        place, mine = constants_of(table, index, 2), rows > 0 and tid < PATCH_COLUMNS
        if table[this + codes.L_NORM] != codes.NO_NORM:
            of_gain, of_shift = 0.0, 0.0
            for r in range(tid // PATCH_COLUMNS, rows, PATCH_ROWS):
                of_gain += float(mem[table[this + codes.L_HAT] + r * ld + c])
                of_shift += float(mem[table[this + codes.L_SLOPE] + r * ld + c])
            of_gain = fold_column(shared, tid, of_gain)
            of_shift = fold_column(shared, tid, of_shift)
            if mine:
                at = first + (table[this + codes.L_FAN_IN] + 1) * ldw
                update_weight(mem, table, real(of_gain), at, place)
                update_weight(mem, table, real(of_shift), at + ldw, place)
        if table[this + codes.L_LATE] == codes.PRELU:
            total, low, of_slope = table[this + codes.L_TOTAL] + c, table[this + codes.L_LOW] + c, 0.0
            for r in range(tid // PATCH_COLUMNS, rows, PATCH_ROWS):
                of_slope += float(mem[total + r * ld] * mem[low + r * ld])
            of_slope = fold_column(shared, tid, of_slope)
            if mine:
                at = first + (table[this + codes.L_ROWS] - 1) * ldw
                update_weight(mem, table, real(of_slope), at, place)

    @kernel
    def track_running(mem, table):
        """running += MOMENTUM * (the batch's - running), mean and unbiased variance; block y: a layer."""
        this = DEVICE + codes.HEADER + cuda.blockIdx.y * codes.LAYER_COLUMNS
        c = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
        moves = table[codes.G_STOPPED] == 0 and table[this + codes.L_FROZEN] == 0
        if not moves or table[this + codes.L_NORM] != codes.BATCH_NORM or c >= table[this + codes.L_FAN_OUT]:
            return
        rows = real(table[codes.G_ROWS])
        stat, at = table[this + codes.L_STAT] + c, table[this + codes.L_RUNNING] + c
        mean = mem[stat + codes.N_MEAN * table[this + codes.L_LDA]]
        variance = mem[stat + codes.N_VARIANCE * table[this + codes.L_LDA]] * (rows / (rows - one))
        mem[at] += momentum * (mean - mem[at])
        at += table[this + codes.L_LDW]
        mem[at] += momentum * (variance - mem[at])

    return {"batch_statistics": batch_statistics, "batch_norm_backward": batch_norm_backward,
            "vector_update": vector_update, "track_running": track_running}  # fmt: skip
