"""Network + loss + optimizer + batch -> the integer table and the arena sizes of the program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..kernels import codes
from ..network.activations import code as activation_code
from ..network.layers import runs, threshold
from ..network.layout import Cursor, align, leading_dimension

if TYPE_CHECKING:
    from ..network.mlp import MLP
    from ..types import Doubles

VECTOR_BYTES = 256  # widest panel of any tile, in bytes a row


class Plan:
    """The table that one compiled program reads; see kernels/codes.py for its columns.

    table : int64 array; work_size : elements of the work arena; numbers : the loss's own, to be put at
    table[P_NUMBERS] there; coded : where the table names functions, which may be the user's. optimizer : the
    code of its update; gradient : whether gradients are kept (the second path); frozen : numbers of layers
    that stay as they are; average : whether the slots' last array is the average of the weights; wide : how
    many numbers there is room for in a sample's target, in outputs; seeks : whether the inputs' gradient is
    wanted.
    """

    def __init__(
        self,
        net: MLP,
        loss: int,
        optimizer: int,
        batch: int,
        threads: int,
        gradient: bool = False,
        frozen: Sequence[int] = (),
        numbers: Sequence[float] | Doubles = (),
        average: bool = False,
        wide: int = 1,
        seeks: bool = False,
    ) -> None:
        item = net.dtype.itemsize
        layers = len(net.layers)
        numeric = runs(net.sizes[0], {c for c, _, _ in net.embedded}) if net.embedded else []
        behind = codes.HEADER + layers * codes.LAYER_COLUMNS
        size = len(numeric) * codes.RUN_COLUMNS + len(net.embedded) * codes.EMBEDDING_COLUMNS
        table: Any = np.zeros(behind + size, np.int64)
        place = Cursor(item)
        inputs, outputs = net.sizes[0], net.sizes[-1]

        table[codes.P_LAYERS], table[codes.P_BATCH] = layers, batch
        table[codes.P_INPUTS], table[codes.P_OUTPUTS] = inputs, outputs
        table[codes.P_LOSS], table[codes.P_OPTIMIZER] = loss, optimizer
        table[codes.P_SLOTS] = codes.SLOTS[optimizer] + average
        table[codes.P_SIZE] = net.params.size
        table[codes.P_LOWEST] = min((i for i in range(layers) if i not in frozen or seeks), default=layers)
        table[codes.P_ZERO] = place.take(VECTOR_BYTES // item)
        table[codes.P_LDX] = leading_dimension(net.layers[0][0], item)
        table[codes.P_X] = place.take(batch * table[codes.P_LDX])
        table[codes.P_TARGETS] = 1 if loss in codes.LABELS else outputs  # until targets are bound
        table[codes.P_LDT] = leading_dimension(wide * outputs, item)  # room for probabilities too
        table[codes.P_TARGET] = place.take(batch * table[codes.P_LDT])
        table[codes.P_ROWLOSS], table[codes.P_ROWSCALE] = place.take(batch), place.take(batch)

        self.numbers = numbers
        table[codes.P_NUMBERS] = place.take(codes.LOSS_SCALARS + leading_dimension(outputs, item))

        x, ldx = table[codes.P_X], table[codes.P_LDX]
        names = [*net.activations, "identity"]
        for i, (fan_in, fan_out, start, ld) in enumerate(net.layers):
            row = self._rows(table, layers)[i]
            row[codes.L_FAN_IN], row[codes.L_FAN_OUT] = fan_in, fan_out
            row[codes.L_ACTIVATION] = activation_code(names[i])
            row[codes.L_W], row[codes.L_LDW] = start, ld
            row[codes.L_FROZEN] = i in frozen
            row[codes.L_X], row[codes.L_LDX] = x, ldx
            row[codes.L_LDA] = leading_dimension(fan_out, item)
            row[codes.L_A] = place.take(batch * row[codes.L_LDA])
            row[codes.L_DELTA] = place.take(batch * row[codes.L_LDA])
            row[codes.L_ROWS], row[codes.L_SLOPE] = fan_in + 1, row[codes.L_DELTA]
            row[codes.L_DERIVE] = row[codes.L_ACTIVATION]
            if i < layers - 1:
                self._special(net, i, row, batch, place)
            x, ldx = row[codes.L_A], row[codes.L_LDA]

        widest = max(leading_dimension(o, item) for o in net.sizes[1:])
        panel = max(widest * (VECTOR_BYTES // item), (widest + codes.PACKED) * min(batch, codes.LONG))
        rows = min(batch, codes.BLOCK_ROWS) * (VECTOR_BYTES // item)
        table[codes.P_PANEL] = codes.S_TILE + max(codes.TILE, rows)
        table[codes.P_SUMS] = table[codes.P_PANEL] + align(panel, item)
        sums = codes.SUM_ROWS * widest * ((batch > codes.LONG) + (batch > codes.LONGER))
        table[codes.P_SCRATCH_SIZE] = table[codes.P_SUMS] + align(sums, item)
        table[codes.P_SCRATCH] = place.take(threads * table[codes.P_SCRATCH_SIZE])
        if gradient:
            table[codes.P_GRADIENT] = place.take(net.params.size)
            sizes = [row[codes.L_ROWS] * row[codes.L_LDW] for row in self._rows(table, layers)]
            sizes += [n * ld for (_, n, _), (_, ld) in zip(net.embedded, net.tables, strict=True)]
            table[codes.P_PARTIALS] = place.take(sum(-(-int(size) // codes.NORM_BLOCK) for size in sizes))
        table[codes.P_DROPOUT] = threshold(net.input_dropout)
        table[codes.P_MEETS] = "batch" in net.norms
        table[codes.P_SOUGHT] = 0 if seeks else net.layers[0][0]
        if net.embedded and not seeks and 0 not in frozen:
            table[codes.P_SOUGHT] -= sum(w for _, _, w in net.embedded)
        if table[codes.P_SOUGHT] < net.layers[0][0]:
            table[codes.P_LDDX] = leading_dimension(net.layers[0][0] - int(table[codes.P_SOUGHT]), item)
            table[codes.P_DX] = place.take(batch * table[codes.P_LDDX])
        if net.embedded:
            self._embeddings(net, table, behind, numeric, batch, place)
        starts = range(codes.HEADER, behind, codes.LAYER_COLUMNS)
        self.coded = [codes.P_LOSS, *(i + c for i in starts for c in (codes.L_ACTIVATION, codes.L_LATE))]
        self.table, self.work_size = table, place.size

    @staticmethod
    def _rows(table, layers):
        """The layers' columns."""
        start, end = codes.HEADER, codes.HEADER + layers * codes.LAYER_COLUMNS
        return table[start:end].reshape(layers, codes.LAYER_COLUMNS)

    @staticmethod
    def _special(net, i, row, batch, place):
        """The columns of hidden layer i that has a norm, dropout, a skip or prelu."""
        ld = row[codes.L_LDA]
        row[codes.L_NORM] = codes.NORMS.get(net.norms[i], codes.NO_NORM)
        row[codes.L_DROPOUT], row[codes.L_SKIP] = threshold(net.dropouts[i]), net.skips[i]
        learns = row[codes.L_ACTIVATION] in codes.LEARNED.values()
        row[codes.L_SPECIAL] = bool(row[codes.L_NORM] or row[codes.L_DROPOUT] or row[codes.L_SKIP] or learns)
        if not row[codes.L_SPECIAL]:
            return
        row[codes.L_LATE], row[codes.L_ACTIVATION] = row[codes.L_ACTIVATION], codes.IDENTITY
        row[codes.L_DERIVE] = codes.SLOPE_KEPT
        if row[codes.L_NORM]:
            row[codes.L_ROWS] += 2
            row[codes.L_SLOPE], row[codes.L_HAT] = place.take(batch * ld), place.take(batch * ld)
            row[codes.L_STAT] = place.take(max(batch, codes.STATISTICS * ld))
            row[codes.L_RUNNING] = net.running[i]
        if learns:
            row[codes.L_ROWS] += 1
            row[codes.L_LOW] = place.take(batch * ld)
        if row[codes.L_SKIP] or learns:
            row[codes.L_TOTAL] = place.take(batch * ld)

    @staticmethod
    def _embeddings(net, table, at, numeric, batch, place):
        """The entries behind the layers', from table[at] on."""
        table[codes.P_RUNS], table[codes.P_EMBEDDINGS] = len(numeric), len(net.embedded)
        table[codes.P_CODES] = place.take(batch * len(net.embedded))
        for run in numeric:
            table[at : at + codes.RUN_COLUMNS] = run
            at += codes.RUN_COLUMNS
        x = net.layers[0][0] - sum(w for _, _, w in net.embedded)
        for (column, categories, w), (start, ld) in zip(net.embedded, net.tables, strict=True):
            parts = 1 + (batch > max(codes.EMBEDDED_ROWS, categories))
            gradient = place.take(parts * categories * ld)
            table[at : at + codes.EMBEDDING_COLUMNS] = column, categories, w, x, start, ld, gradient
            at, x = at + codes.EMBEDDING_COLUMNS, x + w
