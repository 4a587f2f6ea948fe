"""Losses with their gradients, links, sums over the batch. Normalised as in cpu/losses.py.

A group of threads, as many as a row of outputs is worth, works on each row; what they find meets in
shared memory, by halves: every sum has one order.
"""

import math

from numba import float64

from .. import codes, loss_formulas
from ..codes import DEVICE
from .device import cuda, device, kernel
from .folds import ROW_THREADS, fold_largest, fold_sum, lanes_of_row, meet
from .views import row_functions


@device
def batch_weight(shared, tid, mem, table):
    """The weights of the batch's rows together; all threads of the block call it."""
    rows = table[codes.G_ROWS]
    if table[codes.G_WEIGHTED] == 0:
        return float(rows)
    total = 0.0
    for r in range(tid, rows, ROW_THREADS):
        total += float(mem[table[DEVICE + codes.P_ROWSCALE] + r])
    return float(fold_sum(shared, tid, ROW_THREADS, total))


def build(names):
    """{name: kernel} for a namespace of scalar.functions and updates.constants."""
    real, number_type = names["real"], names["number_type"]
    update_constants = names["update_constants"]
    one = real(1)

    names |= {"fold_sum": fold_sum, "fold_largest": fold_largest, "least": real(-math.inf), "meet": meet}
    row_functions("link_row", loss_formulas.LINK, "0", names)
    link_row = names["link_row"]
    linked = tuple(loss_formulas.LINK)

    @kernel
    def link(out, mem, table):
        """out (N * O,) = what the outputs stand for, at the rows of the step; moves on to the next."""
        shared = cuda.shared.array(ROW_THREADS, number_type)
        tid = cuda.threadIdx.x
        code, count = table[DEVICE + codes.P_LOSS], table[DEVICE + codes.P_OUTPUTS]
        last = DEVICE + codes.HEADER + (table[DEVICE + codes.P_LAYERS] - 1) * codes.LAYER_COLUMNS
        ld, group = table[last + codes.L_LDA], lanes_of_row(count)
        row = cuda.blockIdx.x * (ROW_THREADS // group) + tid // group
        width = count if row < table[codes.G_ROWS] else 0
        row = min(row, table[codes.G_ROWS] - 1)
        z, kept = table[last + codes.L_A] + row * ld, table[last + codes.L_DELTA] + row * ld
        if table[codes.G_MODE] == codes.FORWARD:
            code = -1
        places = z, z, kept, table[DEVICE + codes.P_NUMBERS]
        link_row(code, mem, shared, (tid, group), width, count, places, one)
        place = z
        for other in linked:
            if code == other:
                place = kept
        sample = table[codes.G_STEP] * table[DEVICE + codes.P_BATCH] + row
        for c in range(tid % group, width, group):
            out[sample * count + c] = mem[place + c]

    @kernel
    def add_offsets(mem, table):
        """Outputs += the offsets behind their row's targets: a block a row and some columns."""
        row, c = cuda.blockIdx.x, cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x
        count = table[DEVICE + codes.P_OFFSETS]
        if row >= table[codes.G_ROWS] or c >= count:
            return
        last = DEVICE + codes.HEADER + (table[DEVICE + codes.P_LAYERS] - 1) * codes.LAYER_COLUMNS
        place = table[DEVICE + codes.P_TARGET] + row * table[DEVICE + codes.P_LDT]
        mem[table[last + codes.L_A] + row * table[last + codes.L_LDA] + c] += mem[
            place + table[codes.G_TARGETED] - count + c
        ]

    @kernel
    def next_step(table):
        """The next step's number: after ``link``, whose blocks all read it."""
        table[codes.G_STEP] += 1

    @kernel
    def close_loss(mem, table, numbers):
        """One block: the batch's loss into the sums, the update's constants, the next step's number.

        A training step whose loss is not finite stops all that follow: nothing is updated any more.
        """
        shared = cuda.shared.array(ROW_THREADS, float64)
        tid, value = cuda.threadIdx.x, 0.0
        for r in range(tid, table[codes.G_ROWS], ROW_THREADS):
            value += float(mem[table[DEVICE + codes.P_ROWLOSS] + r])
        value = fold_sum(shared, tid, ROW_THREADS, value)
        mass = batch_weight(shared, tid, mem, table)
        if tid > 0 or table[codes.G_STOPPED] != 0:
            return
        if table[codes.G_BROKEN] != 0:  # by the update before
            table[codes.G_STOPPED] = 1
            return
        if table[codes.G_MODE] == codes.TRAIN and not math.isfinite(value):
            table[codes.G_STOPPED] = 1
            numbers[codes.U_LOSS] = value
            return
        numbers[codes.U_LOSS] += value * mass
        numbers[codes.U_WEIGHT] += mass
        if table[codes.G_MODE] == codes.TRAIN:
            every, step = table[codes.G_EVERY], table[codes.G_STEP]
            part, batch = step % every, table[DEVICE + codes.P_BATCH]
            last = part == every - 1 or (step + 1) * batch >= table[codes.G_SAMPLES]
            table[codes.G_PART], table[codes.G_UPDATES] = part, 1 if last else 0
            table[codes.G_KEEPS] = codes.ADD if part > 0 and table[codes.G_PARTS] == 1 else codes.STORE
            numbers[codes.U_FACTOR] = 1.0 / (part + 1)
            if last:
                table[codes.G_NUMBER] += 1
                update_constants(mem, table, numbers, step // every)
        table[codes.G_STEP] += 1

    return {
        "loss": loss_kernel(names, loss_formulas.LOSS),
        "link": link,
        "add_offsets": add_offsets,
        "next_step": next_step,
        "close_loss": close_loss,
    }


def loss_kernel(names, losses, more=""):
    """The kernel loss for a table of formulas; more: see cache.attach. Codes of users' losses are one."""
    real, number_type = names["real"], names["number_type"]
    zero, one = real(0), real(1)
    row_functions("loss_row", losses, "value, hits, right", names)
    loss_row = names["loss_row"]

    def loss(mem, table):
        """row loss = scale loss(z, t), delta = its gradient, right answers counted; rows of the batch.

        Rows of a last block that is not full have no columns: their threads only meet the others.
        """
        shared = cuda.shared.array(ROW_THREADS, number_type)
        tid = cuda.threadIdx.x
        code, count = min(table[DEVICE + codes.P_LOSS], codes.USER), table[DEVICE + codes.P_OUTPUTS]
        last = DEVICE + codes.HEADER + (table[DEVICE + codes.P_LAYERS] - 1) * codes.LAYER_COLUMNS
        ld, group = table[last + codes.L_LDA], lanes_of_row(count)
        mass = real(batch_weight(shared, tid, mem, table))
        row = cuda.blockIdx.x * (ROW_THREADS // group) + tid // group
        inside = row < table[codes.G_ROWS]
        width = count if inside else 0
        row = min(row, table[codes.G_ROWS] - 1)
        row_weight = one / mass if mass > zero else zero
        if table[codes.G_WEIGHTED] != 0:
            row_weight *= mem[table[DEVICE + codes.P_ROWSCALE] + row]
        places = (
            table[last + codes.L_A] + row * ld,
            table[DEVICE + codes.P_TARGET] + row * table[DEVICE + codes.P_LDT],
            table[last + codes.L_DELTA] + row * ld,
            table[DEVICE + codes.P_NUMBERS],
        )
        value, hits, right = loss_row(code, mem, shared, (tid, group), width, count, places, row_weight)
        hits += int(fold_sum(shared, tid, group, right))
        if inside and tid % group == 0:
            mem[table[DEVICE + codes.P_ROWLOSS] + row] = value
            if hits > 0 and row_weight > zero:
                cuda.atomic.add(table, codes.G_HITS, hits)

    return kernel(loss, more=more)
