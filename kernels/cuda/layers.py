"""What a hidden layer does after its product where it has a norm, dropout, a skip or prelu; dropout itself.

A layer without any of these never comes here, but for one below a skip: what comes past the skip meets
its delta before the activation's slope, so that is not in the product's epilogue either. A group of
threads works on each row; rows that are not there have no columns.
"""

import math

from .. import codes
from ..codes import DEVICE
from .device import cuda, device, kernel
from .folds import ROW_THREADS, fold_sum, lanes_of_row


def build(names):
    """{name: kernel} for a namespace of scalar.functions."""
    real, number_type = names["real"], names["number_type"]
    row_keys, random_bits, word = names["row_keys"], names["random_bits"], names["word"]
    zero = real(0)

    @device
    def kept_share(rate):
        """1 / (1 - rate), the rate in 1 / DROPOUT_RANGE."""
        return real(float(codes.DROPOUT_RANGE) / float(codes.DROPOUT_RANGE - rate))

    @kernel
    def drop_inputs(mem, table):
        """Dropout of the batch's inputs, in place: a block a row and some columns."""
        row, c = cuda.blockIdx.x, cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x
        if row >= table[codes.G_ROWS] or c >= table[DEVICE + codes.HEADER + codes.L_FAN_IN]:
            return
        first, second = row_keys(table[codes.G_SEED], table[codes.G_DROPS], 0, row)
        at = table[DEVICE + codes.P_X] + row * table[DEVICE + codes.P_LDX] + c
        rate = table[DEVICE + codes.P_DROPOUT]
        kept = random_bits(first, second, word(c)) >= rate
        mem[at] = mem[at] * kept_share(rate) if kept else zero

    @kernel
    def finish_inputs(mem, table):
        """P_DX, the gradient of inputs: what came past layer 0, then the inputs' dropout."""
        row, c = cuda.blockIdx.x, cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x
        first_layer = DEVICE + codes.HEADER
        column = table[DEVICE + codes.P_SOUGHT] + c
        if row >= table[codes.G_ROWS] or column >= table[first_layer + codes.L_FAN_IN]:
            return
        at = table[DEVICE + codes.P_DX] + row * table[DEVICE + codes.P_LDDX] + c
        g = mem[at]
        if table[first_layer + codes.L_SKIP] != 0:
            g += mem[table[first_layer + codes.L_TOTAL] + row * table[first_layer + codes.L_LDA] + column]
        rate = table[DEVICE + codes.P_DROPOUT]
        if rate != 0 and table[codes.G_DROPS] != 0:
            first, second = row_keys(table[codes.G_SEED], table[codes.G_DROPS], 0, row)
            kept = random_bits(first, second, word(column)) >= rate
            g = g * kept_share(rate) if kept else zero
        mem[at] = g

    @kernel
    def finish_delta(mem, table, index):
        """delta of a layer from its output's gradient, which the product left there: what came past the
        layer above, f' and dropout; through a layer norm. With a batch norm the rest is norms.py's.
        """
        shared = cuda.shared.array(ROW_THREADS, number_type)
        tid = cuda.threadIdx.x
        this = DEVICE + codes.HEADER + index * codes.LAYER_COLUMNS
        above = this + codes.LAYER_COLUMNS
        count, ld = table[this + codes.L_FAN_OUT], table[this + codes.L_LDA]
        group = lanes_of_row(count)
        row = cuda.blockIdx.x * (ROW_THREADS // group) + tid // group
        width = count if row < table[codes.G_ROWS] else 0
        row = min(row, table[codes.G_ROWS] - 1)
        passes = table[above + codes.L_SKIP]
        keeps = table[this + codes.L_SKIP] != 0 or table[this + codes.L_LATE] == codes.PRELU
        norm = table[this + codes.L_NORM]
        past, total = table[above + codes.L_TOTAL] + row * ld, table[this + codes.L_TOTAL] + row * ld
        delta, slope = table[this + codes.L_DELTA] + row * ld, table[this + codes.L_SLOPE] + row * ld
        out = delta if norm == codes.NO_NORM else slope
        for c in range(tid % group, width, group):
            g = mem[delta + c]
            if passes != 0:
                g += mem[past + c]
            if keeps:
                mem[total + c] = g
            mem[out + c] = g * mem[slope + c]
        if norm != codes.LAYER_NORM:
            return
        hat = table[this + codes.L_HAT] + row * ld
        gain = table[this + codes.L_W] + (table[this + codes.L_FAN_IN] + 1) * table[this + codes.L_LDW]
        some, product = zero, zero
        for c in range(tid % group, width, group):
            h = mem[slope + c] * mem[gain + c]
            some += h
            product += h * mem[hat + c]
        some = fold_sum(shared, tid, group, some) / real(count)
        product = fold_sum(shared, tid, group, product) / real(count)
        inverse = mem[table[this + codes.L_STAT] + row]
        for c in range(tid % group, width, group):
            g, value = mem[slope + c], mem[hat + c]
            mem[delta + c] = (g * mem[gain + c] - some - value * product) * inverse
            mem[hat + c] = value * g

    names |= {"kept_share": kept_share}
    return {"drop_inputs": drop_inputs, "finish_inputs": finish_inputs, "finish_delta": finish_delta,
            "finish_layer": finishing(names, names["activate_both"])}  # fmt: skip


def finishing(names, activate_both, more=""):
    """The kernel finish_layer, for activations that ``activate_both`` knows; more: see cache.attach."""
    real, number_type, kept_share = names["real"], names["number_type"], names["kept_share"]
    fma, row_keys, random_bits, word = (names[n] for n in ("fma", "row_keys", "random_bits", "word"))
    prelu, zero, one, epsilon = names["prelu"], real(0), real(1), real(codes.NORM_EPS)

    def finish_layer(mem, table, index):
        """z becomes the layer's output: norm, activation, dropout, skip; slopes times dropout are kept."""
        shared = cuda.shared.array(ROW_THREADS, number_type)
        tid = cuda.threadIdx.x
        this = DEVICE + codes.HEADER + index * codes.LAYER_COLUMNS
        count, ld = table[this + codes.L_FAN_OUT], table[this + codes.L_LDA]
        group = lanes_of_row(count)
        row = cuda.blockIdx.x * (ROW_THREADS // group) + tid // group
        width = count if row < table[codes.G_ROWS] else 0
        row = min(row, table[codes.G_ROWS] - 1)
        norm, code, mode = table[this + codes.L_NORM], table[this + codes.L_LATE], table[codes.G_MODE]
        a, slope = table[this + codes.L_A] + row * ld, table[this + codes.L_SLOPE] + row * ld
        hat, stat = table[this + codes.L_HAT] + row * ld, table[this + codes.L_STAT]
        gain = table[this + codes.L_W] + (table[this + codes.L_FAN_IN] + 1) * table[this + codes.L_LDW]
        shift = gain + table[this + codes.L_LDW]
        mean, inverse = zero, one
        if norm == codes.LAYER_NORM:
            total = zero
            for c in range(tid % group, width, group):
                total += mem[a + c]
            mean = fold_sum(shared, tid, group, total) / real(count)
            total = zero
            for c in range(tid % group, width, group):
                total += (mem[a + c] - mean) * (mem[a + c] - mean)
            variance = fold_sum(shared, tid, group, total) / real(count)
            inverse = one / real(math.sqrt(variance + epsilon))
            if tid % group == 0 and width > 0:
                mem[stat + row] = inverse
        rate = table[this + codes.L_DROPOUT] if table[codes.G_DROPS] != 0 else 0
        first, second = row_keys(table[codes.G_SEED], table[codes.G_DROPS], index + 1, row)
        kept_factor = kept_share(rate)
        alpha = table[this + codes.L_W] + (table[this + codes.L_ROWS] - 1) * table[this + codes.L_LDW]
        low, learns = table[this + codes.L_LOW] + row * ld, code == codes.PRELU
        skip = table[this + codes.L_X] + row * table[this + codes.L_LDX]
        for c in range(tid % group, width, group):
            z = mem[a + c]
            if norm != codes.NO_NORM:
                if norm == codes.BATCH_NORM:
                    mean, inverse = mem[stat + codes.N_MEAN * ld + c], mem[stat + codes.N_INVERSE * ld + c]
                z = (z - mean) * inverse
                mem[hat + c] = z
                z = fma(z, mem[gain + c], mem[shift + c])
            learned = zero
            if learns:
                value, derivative, learned = prelu(z, mem[alpha + c])
            else:
                value, derivative = activate_both(code, z)
            if rate != 0:
                factor = kept_factor if random_bits(first, second, word(c)) >= rate else zero
                value *= factor
                derivative *= factor
                learned *= factor
            if table[this + codes.L_SKIP] != 0:
                value += mem[skip + c]
            mem[a + c] = value
            if mode <= codes.GRADIENTS:
                mem[slope + c] = derivative
            if mode <= codes.GRADIENTS and learns:
                mem[low + c] = learned

    return kernel(finish_layer, more=more)
