"""Embeddings: categorical columns of X become rows of a table, behind the numeric columns."""

from .. import codes
from ..codes import DEVICE
from .data import begin_step, fetch_target
from .device import SIMULATED, cuda, kernel
from .updates import constants_of, embedding

NUMBER_THREADS = 4 if SIMULATED else 128


def build(names):
    """{name: kernel} for a namespace of scalar.functions, updates.constants."""
    real, zero, update_weight = names["real"], names["zero"], names["update_weight"]

    @kernel
    def gather_mixed(x, mem, table, order, y, weight):
        """As data.gather, for networks with embeddings: runs of numeric columns, then the tables' rows."""
        row, tid = cuda.blockIdx.x, cuda.threadIdx.x
        rows, sample = begin_step(table, order, row, tid)
        if row >= rows:
            return
        place = table[DEVICE + codes.P_X] + row * table[DEVICE + codes.P_LDX]
        source, step = sample * table[codes.G_X_ROW], table[codes.G_X_COL]
        run = DEVICE + codes.HEADER + table[DEVICE + codes.P_LAYERS] * codes.LAYER_COLUMNS
        for _ in range(table[DEVICE + codes.P_RUNS]):
            for c in range(tid, table[run + codes.R_COUNT], NUMBER_THREADS):
                number = real(x[source + (table[run + codes.R_COLUMN] + c) * step])
                mem[place + table[run + codes.R_PLACE] + c] = number
                if number - number != zero and table[codes.G_MODE] >= codes.PREDICT:
                    cuda.atomic.add(table, codes.G_HITS, 1)
            run += codes.RUN_COLUMNS
        for index in range(table[DEVICE + codes.P_EMBEDDINGS]):
            this = embedding(table, index)
            # checked before, but the data may change meanwhile: never outside the table
            category = int(x[source + table[this + codes.E_COLUMN] * step])
            category = min(max(category, 0), table[this + codes.E_CATEGORIES] - 1)
            kept = table[DEVICE + codes.P_CODES] + index * table[DEVICE + codes.P_BATCH]
            if tid == 0:
                mem[kept + row] = real(category)
            first = table[this + codes.E_TABLE] + category * table[this + codes.E_LD]
            for c in range(tid, table[this + codes.E_WIDTH], NUMBER_THREADS):
                mem[place + table[this + codes.E_PLACE] + c] = mem[first + c]
        for c in range(tid, max(1, table[codes.G_TARGETED]), NUMBER_THREADS):
            fetch_target(mem, table, y, weight, sample, row, c)

    @kernel
    def embedding_update(mem, table):
        """A number of a table each thread: its gradient, and the update. Block y: an embedding.

        The gradient of a category is the sum over the batch's rows that have it, in their order; where no
        row has it, 0: that too is a step of the optimizer, as in torch.
        """
        if table[codes.G_STOPPED] != 0:
            return
        index = cuda.blockIdx.y
        this, at = embedding(table, index), cuda.blockIdx.x * NUMBER_THREADS + cuda.threadIdx.x
        width = table[this + codes.E_WIDTH]
        category, c = at // width, at % width
        if category >= table[this + codes.E_CATEGORIES]:
            return
        kept = table[DEVICE + codes.P_CODES] + index * table[DEVICE + codes.P_BATCH]
        first = table[this + codes.E_PLACE] - table[DEVICE + codes.P_SOUGHT]
        dx = table[DEVICE + codes.P_DX] + first + c
        ld = table[DEVICE + codes.P_LDDX]
        wanted, total = real(category), 0.0
        for row in range(table[codes.G_ROWS]):
            if mem[kept + row] == wanted:
                total += float(mem[dx + row * ld])
        place = table[this + codes.E_TABLE] + category * table[this + codes.E_LD] + c
        update_weight(mem, table, real(total), place, constants_of(table, 0, 1))

    return {"gather_mixed": gather_mixed, "embedding_update": embedding_update}
