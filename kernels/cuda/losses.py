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
        rows = table[codes.G_ROWS]
        if table[codes.G_WEIGHTED] == 0:
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
        inside = row < table[codes.G_ROWS]
        width = count if inside else 0
        row = min(row, table[codes.G_ROWS] - 1)
        share = one / mass if mass > zero else zero
        if table[codes.G_WEIGHTED] != 0:
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
                cuda.atomic.add(table, codes.G_HITS, hits)

    @kernel
    def link(out, mem, table):
        """out (N * O,) = what the outputs stand for, at the rows of the step; moves on to the next."""
        shared = cuda.shared.array(THREADS, number_type)
        tid = cuda.threadIdx.x
        code, count = table[DEVICE + codes.P_LOSS], table[DEVICE + codes.P_OUTPUTS]
        last = DEVICE + codes.HEADER + (table[DEVICE + codes.P_LAYERS] - 1) * codes.LAYER_COLUMNS
        ld, group = table[last + codes.L_LDA], lanes_of_row(count)
        row = cuda.blockIdx.x * (THREADS // group) + tid // group
        width = count if row < table[codes.G_ROWS] else 0
        row = min(row, table[codes.G_ROWS] - 1)
        z, kept = table[last + codes.L_A] + row * ld, table[last + codes.L_DELTA] + row * ld
        if table[codes.G_MODE] == codes.FORWARD:
            code = -1
        link_row(code, mem, shared, tid, group, width, count, z, z, kept,
                 table[DEVICE + codes.P_NUMBERS], one)  # fmt: skip
        place = z
        for other in linked:
            if code == other:
                place = kept
        sample = table[codes.G_STEP] * table[DEVICE + codes.P_BATCH] + row
        for c in range(tid % group, width, group):
            out[sample * count + c] = mem[place + c]

    @kernel
    def next_step(table):
        """The next step's number: after ``link``, whose blocks all read it."""
        table[codes.G_STEP] += 1

    @device
    def moment_constants(mem, c, rule, numbers, lr, b1, product, t):
        """As in cpu/program.py: of rules that divide by a mean."""
        b2 = numbers[codes.H_BETA2]
        mem[c + codes.C_BETA1] = 1.0 - b1
        mem[c + codes.C_BETA2] = 1.0 - b2
        mem[c + codes.C_EPS] = max(numbers[codes.H_EPS], 1e-37)
        power = math.pow(b2, t)
        if rule == codes.ADAM or rule == codes.AMSGRAD:
            mem[c + codes.C_LR] = lr / (1.0 - math.pow(b1, t))
            mem[c + codes.C_ROOT] = 1.0 / math.sqrt(1.0 - power)
        elif rule == codes.NADAM:
            decay = numbers[codes.H_MOMENTUM_DECAY]
            now = b1 * (1.0 - 0.5 * math.pow(0.96, t * decay))
            after = b1 * (1.0 - 0.5 * math.pow(0.96, (t + 1.0) * decay))
            mem[c + codes.C_ROOT] = 1.0 / math.sqrt(1.0 - power)
            mem[c + codes.C_SLOPE] = (1.0 - now) / (1.0 - product)
            mem[c + codes.C_MEAN] = after / (1.0 - product * after)
        elif rule == codes.RADAM:
            end = 2.0 / (1.0 - b2) - 1.0
            rho = end - 2.0 * t * power / (1.0 - power)
            rectified = 0.0
            if rho > 5.0:
                rectified = math.sqrt((rho - 4.0) * (rho - 2.0) * end / ((end - 4.0) * (end - 2.0) * rho))
            mem[c + codes.C_LR] = lr / (1.0 - math.pow(b1, t))
            mem[c + codes.C_SIZED] = rectified * math.sqrt(1.0 - power)
            mem[c + codes.C_PLAIN] = 0.0 if rho > 5.0 else 1.0
        elif rule == codes.ADAMAX:
            mem[c + codes.C_LR] = lr / (1.0 - math.pow(b1, t))
            mem[c + codes.C_KEEP] = b2
        elif rule == codes.ADAGRAD:
            mem[c + codes.C_LR] = lr / (1.0 + (t - 1.0) * numbers[codes.H_LR_DECAY])
            mem[c + codes.C_START] = numbers[codes.H_START]
        elif rule != codes.ADADELTA and rule != codes.LION:
            mem[c + codes.C_INERTIA] = b1

    @device
    def update_constants(mem, table, numbers, step, number):
        """What update ``number`` (from 1), the pass's ``step`` (from 0), needs, as in cpu/program.py."""
        c = table[DEVICE + codes.P_SCRATCH] + codes.S_CONSTANTS
        lr, momentum, product = numbers[codes.H_LR], numbers[codes.H_MOMENTUM], 0.0
        if table[codes.G_RATED] != 0:
            at = codes.NUMBERS + codes.RATES * step
            lr, momentum, product = numbers[at], numbers[at + 1], numbers[at + 2]
        decoupled, decay = numbers[codes.H_DECOUPLED] != 0.0, numbers[codes.H_WEIGHT_DECAY]
        mem[c + codes.C_LR] = lr
        mem[c + codes.C_L2] = 0.0 if decoupled else decay
        mem[c + codes.C_DECAY] = lr * decay if decoupled else 0.0
        mem[c + codes.C_L1] = numbers[codes.H_L1]
        mem[c + codes.C_CLIP] = numbers[codes.H_CLIP_VALUE] if numbers[codes.H_CLIP_VALUE] > 0.0 else math.inf
        rule = table[DEVICE + codes.P_OPTIMIZER] % codes.RULES
        if rule == codes.SGD_MOMENTUM:
            nesterov = numbers[codes.H_NESTEROV]
            mem[c + codes.C_MOMENTUM] = momentum
            mem[c + codes.C_FRESH] = 1.0 if number == 1 else 1.0 - numbers[codes.H_DAMPENING]
            mem[c + codes.C_GRADIENT] = nesterov
            mem[c + codes.C_BUFFER] = momentum if nesterov != 0.0 else 1.0
        elif rule != codes.SGD:
            moment_constants(mem, c, rule, numbers, lr, momentum, product, float(number))

    @kernel
    def close_loss(mem, table, numbers):
        """One block: the batch's loss into the sums, the update's constants, the next step's number.

        A training step whose loss is not finite stops all that follow: nothing is updated any more.
        """
        shared = cuda.shared.array(THREADS, number_type)
        tid = cuda.threadIdx.x
        value = zero
        for r in range(tid, table[codes.G_ROWS], THREADS):
            value += mem[table[DEVICE + codes.P_ROWLOSS] + r]
        value = fold_sum(shared, tid, THREADS, value)
        mass = batch_weight(shared, tid, mem, table)
        if tid > 0 or table[codes.G_STOPPED] != 0:
            return
        if table[codes.G_MODE] == codes.TRAIN and not math.isfinite(value):
            table[codes.G_STOPPED] = 1
            numbers[codes.U_LOSS] = value
            return
        numbers[codes.U_LOSS] += float(value) * float(mass)
        numbers[codes.U_WEIGHT] += float(mass)
        if table[codes.G_MODE] == codes.TRAIN:
            table[codes.G_NUMBER] += 1
            update_constants(mem, table, numbers, table[codes.G_STEP], table[codes.G_NUMBER])
        table[codes.G_STEP] += 1

    return {"loss": loss, "link": link, "next_step": next_step, "close_loss": close_loss}
