"""Losses with their gradients, links, sums over the batch. Normalised as in cpu/losses.py.

A group of threads, as many as a row of outputs is worth, works on each row; what they find meets in
shared memory, by halves: every sum has one order.
"""

import math

from .. import codes, loss_formulas
from ..codes import DEVICE
from .device import SIMULATED, cuda, device, kernel
from .scalar import row_functions
from .views import ARGUMENTS

THREADS = 4 if SIMULATED else 128  # of a block of rows; one of sums has as many


def lanes(outputs):
    """Threads that share a row: a power of two, four outputs each, at most a block."""
    count = 1
    while count * 4 < outputs and count < THREADS:
        count *= 2
    return count


def build(names):
    """{name: kernel} for a namespace of scalar.functions."""
    real, number_type = names["real"], names["number_type"]
    zero, one = real(0), real(1)
    lanes_of_row = device(lanes)

    @device
    def fold_sum(shared, tid, group, value):
        """The group's values added by halves; all threads of the block call it."""
        shared[tid] = value
        cuda.syncthreads()
        step = group // 2
        while step > 0:
            if tid % group < step:
                shared[tid] = shared[tid] + shared[tid + step]
            cuda.syncthreads()
            step //= 2
        total = shared[tid - tid % group]
        cuda.syncthreads()
        return total

    @device
    def fold_largest(shared, tid, group, value):
        shared[tid] = value
        cuda.syncthreads()
        step = group // 2
        while step > 0:
            if tid % group < step and shared[tid + step] > shared[tid]:
                shared[tid] = shared[tid + step]
            cuda.syncthreads()
            step //= 2
        top = shared[tid - tid % group]
        cuda.syncthreads()
        return top

    names |= {"fold_sum": fold_sum, "fold_largest": fold_largest, "least": real(-math.inf)}
    row_functions("loss_row", loss_formulas.LOSS, ARGUMENTS, "value, hits, right", names, names["dtype"])
    row_functions("link_row", loss_formulas.LINK, ARGUMENTS, "0", names, names["dtype"])
    loss_row, link_row = names["loss_row"], names["link_row"]
    linked = tuple(loss_formulas.LINK)

    @device
    def batch_weight(shared, tid, mem, table):
        """The weights of the batch's rows together; all threads of the block call it."""
        rows = table[codes.D_ROWS]
        if table[codes.D_WEIGHTED] == 0:
            return real(rows)
        total = zero
        for r in range(tid, rows, THREADS):
            total += mem[table[DEVICE + codes.P_ROWSCALE] + r]
        return fold_sum(shared, tid, THREADS, total)

    @kernel
    def loss(mem, table):
        """row loss = scale loss(z, t), delta = its gradient, right answers counted; rows of the batch.

        Rows of a last block that is not full have no columns: their threads only meet the others.
        """
        shared = cuda.shared.array(THREADS, number_type)
        tid = cuda.threadIdx.x
        code, count = table[DEVICE + codes.P_LOSS], table[DEVICE + codes.P_OUTPUTS]
        last = DEVICE + codes.HEADER + (table[DEVICE + codes.P_LAYERS] - 1) * codes.LAYER_COLUMNS
        ld, group = table[last + codes.L_LDA], lanes_of_row(count)
        mass = batch_weight(shared, tid, mem, table)
        row = cuda.blockIdx.x * (THREADS // group) + tid // group
        inside = row < table[codes.D_ROWS]
        width = count if inside else 0
        row = min(row, table[codes.D_ROWS] - 1)
        share = one / mass if mass > zero else zero
        if table[codes.D_WEIGHTED] != 0:
            share *= mem[table[DEVICE + codes.P_ROWSCALE] + row]
        value, hits, right = loss_row(
            code, mem, shared, tid, group, width, count, table[last + codes.L_A] + row * ld,
            table[DEVICE + codes.P_TARGET] + row * table[DEVICE + codes.P_LDT],
            table[last + codes.L_DELTA] + row * ld, table[DEVICE + codes.P_NUMBERS], share,
        )  # fmt: skip
        hits += int(fold_sum(shared, tid, group, right))
        if inside and tid % group == 0:
            mem[table[DEVICE + codes.P_ROWLOSS] + row] = value
            if hits > 0 and share > zero:
                cuda.atomic.add(table, codes.D_HITS, hits)

    @kernel
    def link(out, mem, table):
        """out (N * O,) = what the outputs stand for, at the rows of the step; moves on to the next."""
        shared = cuda.shared.array(THREADS, number_type)
        tid = cuda.threadIdx.x
        code, count = table[DEVICE + codes.P_LOSS], table[DEVICE + codes.P_OUTPUTS]
        last = DEVICE + codes.HEADER + (table[DEVICE + codes.P_LAYERS] - 1) * codes.LAYER_COLUMNS
        ld, group = table[last + codes.L_LDA], lanes_of_row(count)
        row = cuda.blockIdx.x * (THREADS // group) + tid // group
        width = count if row < table[codes.D_ROWS] else 0
        row = min(row, table[codes.D_ROWS] - 1)
        z, kept = table[last + codes.L_A] + row * ld, table[last + codes.L_DELTA] + row * ld
        if table[codes.D_MODE] == codes.FORWARD:
            code = -1
        link_row(code, mem, shared, tid, group, width, count, z, z, kept,
                 table[DEVICE + codes.P_NUMBERS], one)  # fmt: skip
        place = z
        for other in linked:
            if code == other:
                place = kept
        sample = table[codes.D_STEP] * table[DEVICE + codes.P_BATCH] + row
        for c in range(tid % group, width, group):
            out[sample * count + c] = mem[place + c]

    @kernel
    def next_step(table):
        """The next step's number: after ``link``, whose blocks all read it."""
        table[codes.D_STEP] += 1

    @device
    def update_constants(mem, table, numbers, step):
        """What the update needs at step number ``step`` (from 1), as in cpu/program.py."""
        c = table[DEVICE + codes.P_SCRATCH] + codes.S_CONSTANTS
        decoupled = numbers[codes.H_DECOUPLED] != 0.0
        lr, decay = numbers[codes.H_LR], numbers[codes.H_WEIGHT_DECAY]
        mem[c + codes.C_LR] = lr
        mem[c + codes.C_L2] = 0.0 if decoupled else decay
        mem[c + codes.C_DECAY] = 1.0 - lr * decay if decoupled else 1.0
        optimizer = table[DEVICE + codes.P_OPTIMIZER]
        if optimizer == codes.ADAM or optimizer == codes.ADAM_DECAY:
            b1, b2 = numbers[codes.H_BETA1], numbers[codes.H_BETA2]
            mem[c + codes.C_BETA1] = 1.0 - b1
            mem[c + codes.C_BETA2] = 1.0 - b2
            mem[c + codes.C_LR] = lr / (1.0 - math.pow(b1, float(step)))
            mem[c + codes.C_ROOT] = 1.0 / math.sqrt(1.0 - math.pow(b2, float(step)))
            mem[c + codes.C_EPS] = max(numbers[codes.H_EPS], 1e-37)
        elif optimizer == codes.SGD_MOMENTUM:
            momentum, nesterov = numbers[codes.H_MOMENTUM], numbers[codes.H_NESTEROV]
            mem[c + codes.C_MOMENTUM] = momentum
            mem[c + codes.C_FRESH] = 1.0 if step == 1 else 1.0 - numbers[codes.H_DAMPENING]
            mem[c + codes.C_GRADIENT] = nesterov
            mem[c + codes.C_BUFFER] = momentum if nesterov != 0.0 else 1.0

    @kernel
    def close_loss(mem, table, numbers):
        """One block: the batch's loss into the sums, the update's constants, the next step's number.

        A training step whose loss is not finite stops all that follow: nothing is updated any more.
        """
        shared = cuda.shared.array(THREADS, number_type)
        tid = cuda.threadIdx.x
        value = zero
        for r in range(tid, table[codes.D_ROWS], THREADS):
            value += mem[table[DEVICE + codes.P_ROWLOSS] + r]
        value = fold_sum(shared, tid, THREADS, value)
        mass = batch_weight(shared, tid, mem, table)
        if tid > 0 or table[codes.D_STOPPED] != 0:
            return
        if table[codes.D_MODE] == codes.TRAIN and not math.isfinite(value):
            table[codes.D_STOPPED] = 1
            numbers[codes.N_LOSS] = value
            return
        numbers[codes.N_LOSS] += float(value) * float(mass)
        numbers[codes.N_WEIGHT] += float(mass)
        table[codes.D_STEP] += 1
        if table[codes.D_MODE] == codes.TRAIN:
            table[codes.D_NUMBER] += 1
            update_constants(mem, table, numbers, table[codes.D_NUMBER])

    return {"loss": loss, "link": link, "next_step": next_step, "close_loss": close_loss}
