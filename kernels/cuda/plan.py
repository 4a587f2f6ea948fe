"""The plan as the GPU reads it: what it may ask for, and where everything lies in device memory."""

import numpy as np

from .. import codes, formulas, loss_formulas, tables


def refuse(plan, hyper):
    """Raises NotImplementedError for a plan or an optimizer that asks for what only the CPU does."""
    layers, hyper = layer_rows(plan), np.array(hyper)
    found = tables.P.refused(tables.GPU, lambda place: plan[place] != 0)
    found += tables.L.refused(tables.GPU, lambda place: layers[:, place].any())
    found += tables.H.refused(tables.GPU, lambda place: hyper[place] != 0)
    loss = int(plan[codes.P_LOSS])
    if loss < codes.USER and loss not in loss_formulas.LOSS:
        found.append(f"loss {loss}")
    known = formulas.ACTIVATION.keys() | formulas.ACTIVATION_AND_SLOPE.keys() | {codes.PRELU}
    for code in {*layers[:, codes.L_ACTIVATION].tolist(), *layers[:, codes.L_LATE].tolist()} - known:
        if code < codes.USER:
            name = next((name for name, other in codes.ACTIVATIONS.items() if other == code), code)
            found.append(f"activation {name}")
    if found:
        what = ", ".join(dict.fromkeys(found))
        raise NotImplementedError(f'device: got "cuda", which does not do this yet ({what}); takes "cpu"')


def layer_rows(plan):
    """The layers' columns of a plan, (layers, columns): a view."""
    rows = plan[codes.HEADER :][: int(plan[codes.P_LAYERS]) * codes.LAYER_COLUMNS]
    return rows.reshape(-1, codes.LAYER_COLUMNS)


def embedding_rows(plan):
    """The embeddings' columns of a plan, (embeddings, columns): a view."""
    behind = codes.HEADER + int(plan[codes.P_LAYERS]) * codes.LAYER_COLUMNS
    behind += int(plan[codes.P_RUNS]) * codes.RUN_COLUMNS
    count = int(plan[codes.P_EMBEDDINGS]) * codes.EMBEDDING_COLUMNS
    return plan[behind : behind + count].reshape(-1, codes.EMBEDDING_COLUMNS)


class Layout:
    """Places in device memory: parameters, slots, the plan's work arena, then what a GPU alone needs.

    late : for each layer, whether a launch of its own finishes it (norm, dropout, a skip; below a skip; a
    user's activation); inputs : the number under which inputs that want a gradient are a layer below layer 0;
    work, constants, spare : where these parts begin; blocks : of gradients whose squares are summed as one.
    """

    def __init__(self, plan, size, slots, work_size):
        layers = layer_rows(plan)
        skips = [*layers[1:, codes.L_SKIP], 0]
        special, activation = layers[:, codes.L_SPECIAL], layers[:, codes.L_ACTIVATION]
        self.late = [bool(s or above or code >= codes.USER)
                     for s, above, code in zip(special, skips, activation, strict=True)]  # fmt: skip
        self.work = size + slots
        self.constants = at = self.work + work_size
        at += -(-codes.CONSTANTS * (1 + 2 * len(layers)) // 64) * 64
        self.slopes = {}
        for i, row in enumerate(layers):  # the CPU keeps them where here the product leaves its gradient
            if self.late[i] and row[codes.L_SLOPE] == row[codes.L_DELTA]:
                self.slopes[i] = at
                at += int(plan[codes.P_BATCH] * row[codes.L_LDA])
        self.spare = at
        self.inputs = -(-(len(plan) - codes.HEADER) // codes.LAYER_COLUMNS) + 1
        sizes = [int(row[codes.L_ROWS] * row[codes.L_LDW]) for row in layers]
        sizes += [int(row[codes.E_CATEGORIES] * row[codes.E_LD]) for row in embedding_rows(plan)]
        self.blocks = sum(-(-s // codes.NORM_BLOCK) for s in sizes)

    def table(self, plan):
        """The plan with places of device memory, late activations apart, and inputs that want a gradient."""
        result = np.zeros(codes.HEADER + (self.inputs + 1) * codes.LAYER_COLUMNS, np.int64)
        result[: len(plan)] = plan
        result[tables.P.places(tables.WORK)] += self.work
        result[codes.P_SCRATCH] = self.constants
        layers = layer_rows(result)
        layers[:, tables.L.places(tables.WORK)] += self.work
        for i, row in enumerate(layers):
            if self.late[i] and not row[codes.L_SPECIAL]:
                row[codes.L_LATE], row[codes.L_ACTIVATION] = row[codes.L_ACTIVATION], codes.IDENTITY
            if i in self.slopes:
                row[codes.L_SLOPE] = self.slopes[i]
        if result[codes.P_SOUGHT] < layers[0, codes.L_FAN_IN]:
            self._inputs(result, layers[0])
        return result

    def _inputs(self, table, first):
        """Two layers behind all others: inputs that want a gradient, and their rows of layer 0's W."""
        sought = table[codes.P_SOUGHT]
        start = codes.HEADER + (self.inputs - 1) * codes.LAYER_COLUMNS
        below, this = table[start:].reshape(2, codes.LAYER_COLUMNS)
        below[codes.L_A] = below[codes.L_DELTA] = table[codes.P_DX]
        below[codes.L_LDA], below[codes.L_ACTIVATION] = table[codes.P_LDDX], codes.IDENTITY
        for column in (codes.L_FAN_OUT, codes.L_DELTA, codes.L_LDA, codes.L_LDW):
            this[column] = first[column]
        this[codes.L_FAN_IN] = first[codes.L_FAN_IN] - sought
        this[codes.L_W] = first[codes.L_W] + sought * first[codes.L_LDW]
