"""Network + loss + optimizer + batch -> the integer table and the arena sizes of the program."""

import numpy as np

from .activations import code as activation_code
from .kernels import codes
from .layout import Cursor, leading_dimension

VECTOR_BYTES = 256  # widest panel of any tile, in bytes a row


class Plan:
    """The table that one compiled program reads; see kernels/codes.py for its columns.

    table : int64 array; work_size : elements of the work arena; numbers : the loss's own, to be put at
    table[P_NUMBERS] there. optimizer : the code of its update; gradient : whether gradients are kept (the
    second path); frozen : numbers of layers that stay as they are; average : whether the slots' last
    array is the average of the weights.
    """

    def __init__(
        self, net, loss, optimizer, batch, threads, gradient=False, frozen=(), numbers=(), average=False
    ):
        item = net.dtype.itemsize
        layers = len(net.layers)
        table = np.zeros(codes.HEADER + layers * codes.LAYER_COLUMNS, np.int64)
        place = Cursor(item)
        inputs, outputs = net.sizes[0], net.sizes[-1]

        table[codes.P_LAYERS], table[codes.P_BATCH] = layers, batch
        table[codes.P_INPUTS], table[codes.P_OUTPUTS] = inputs, outputs
        table[codes.P_LOSS], table[codes.P_OPTIMIZER] = loss, optimizer
        table[codes.P_SLOTS] = codes.SLOTS[optimizer] + average
        table[codes.P_SIZE] = net.params.size
        table[codes.P_LOWEST] = min((i for i in range(layers) if i not in frozen), default=layers)
        table[codes.P_ZERO] = place.take(VECTOR_BYTES // item)
        table[codes.P_LDX] = leading_dimension(inputs, item)
        table[codes.P_X] = place.take(batch * table[codes.P_LDX])
        table[codes.P_TARGETS] = 1 if loss in codes.LABELS else outputs  # until targets are bound
        table[codes.P_LDT] = leading_dimension(outputs, item)  # room for probabilities too
        table[codes.P_TARGET] = place.take(batch * table[codes.P_LDT])
        table[codes.P_ROWLOSS], table[codes.P_ROWSCALE] = place.take(batch), place.take(batch)

        self.numbers = numbers
        table[codes.P_NUMBERS] = place.take(codes.LOSS_SCALARS + leading_dimension(outputs, item))

        x, ldx = table[codes.P_X], table[codes.P_LDX]
        names = [*net.activations, "identity"]
        for i, (fan_in, fan_out, start, ld) in enumerate(net.layers):
            row = table[codes.HEADER + i * codes.LAYER_COLUMNS :][: codes.LAYER_COLUMNS]
            row[codes.L_IN], row[codes.L_OUT] = fan_in, fan_out
            row[codes.L_ACTIVATION] = activation_code(names[i])
            row[codes.L_W], row[codes.L_LDW] = start, ld
            row[codes.L_FROZEN] = i in frozen
            row[codes.L_X], row[codes.L_LDX] = x, ldx
            row[codes.L_LDA] = leading_dimension(fan_out, item)
            row[codes.L_A] = place.take(batch * row[codes.L_LDA])
            row[codes.L_DELTA] = place.take(batch * row[codes.L_LDA])
            x, ldx = row[codes.L_A], row[codes.L_LDA]

        panel = max(leading_dimension(o, item) for o in net.sizes[1:]) * (VECTOR_BYTES // item)
        rows = min(batch, codes.BLOCK_ROWS) * (VECTOR_BYTES // item)
        table[codes.P_PANEL] = codes.S_TILE + max(codes.TILE, rows)
        table[codes.P_SCRATCH_SIZE] = table[codes.P_PANEL] + panel
        table[codes.P_SCRATCH] = place.take(threads * table[codes.P_SCRATCH_SIZE])
        if gradient:
            table[codes.P_GRADIENT] = place.take(net.params.size)
            blocks = sum(-(-(i + 1) * ld // codes.BLOCK) for i, _, _, ld in net.layers)
            table[codes.P_PARTIALS] = place.take(blocks)
        self.table, self.work_size = table, place.size
