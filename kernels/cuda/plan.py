"""The plan as the GPU reads it: what it may ask for, and where everything lies in device memory."""

import numpy as np

from .. import codes, formulas, loss_formulas

# columns of the plan that are places in the work arena
PLACES = (codes.P_X, codes.P_TARGET, codes.P_ROWLOSS, codes.P_ROWSCALE, codes.P_GRADIENT, codes.P_PARTIALS,
          codes.P_ZERO, codes.P_NUMBERS, codes.P_DX, codes.P_CODES)  # fmt: skip
LAYER_PLACES = (codes.L_X, codes.L_A, codes.L_DELTA, codes.L_SLOPE, codes.L_HAT, codes.L_STAT, codes.L_TOTAL,
                codes.L_LOW)  # fmt: skip
# What this program understands; a table with anything else in it is refused, not half obeyed.
KNOWN = {
    "P": "LAYERS BATCH INPUTS OUTPUTS LOSS OPTIMIZER SIZE X LDX TARGET LDT TARGETS ROWLOSS ROWSCALE SCRATCH "
    "SCRATCH_SIZE PANEL GRADIENT PARTIALS ZERO SLOTS LOWEST NUMBERS MEETS DROPOUT DX LDDX CODES RUNS "
    "EMBEDDINGS SUMS",
    "L": "IN OUT ACTIVATION W LDW X LDX A LDA DELTA FROZEN ROWS SLOPE DERIVE SPECIAL LATE NORM HAT STAT "
    "RUNNING DROPOUT SKIP TOTAL LOW",
    "H": "LR WEIGHT_DECAY MOMENTUM DAMPENING NESTEROV BETA2 EPS DECOUPLED LR_DECAY MOMENTUM_DECAY START "
    "CLIP_NORM CLIP_LAYER CLIP_VALUE L1 MAX_NORM ACCUMULATE EMA PER_LAYER BARE_BIAS",
}


def unknown(prefix, table):
    """Columns of a table (..., columns) that are set and that this program does not know, by name."""
    known = {f"{prefix}_{name}" for name in KNOWN[prefix].split()}
    columns = {name: at for name, at in vars(codes).items() if name.startswith(f"{prefix}_")}
    return [name for name, at in columns.items() if name not in known and np.any(table[..., at])]


def refuse(plan, hyper):
    """Raises NotImplementedError for a plan or an optimizer that asks for what only the CPU does."""
    layers = layer_rows(plan)
    found = unknown("P", plan) + unknown("L", layers) + unknown("H", np.array(hyper[: codes.HYPER]))
    found = [name[2:].lower() for name in found]
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
    user's activation); inputs : the number under which the embedded inputs are a layer below layer 0;
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
        self.blocks = sum(-(-s // codes.BLOCK) for s in sizes)

    def table(self, plan):
        """The plan with places of device memory, late activations apart, and the embedded inputs."""
        result = np.zeros(codes.HEADER + (self.inputs + 1) * codes.LAYER_COLUMNS, np.int64)
        result[: len(plan)] = plan
        result[list(PLACES)] += self.work
        result[codes.P_SCRATCH] = self.constants
        layers = layer_rows(result)
        layers[:, list(LAYER_PLACES)] += self.work
        for i, row in enumerate(layers):
            if self.late[i] and not row[codes.L_SPECIAL]:
                row[codes.L_LATE], row[codes.L_ACTIVATION] = row[codes.L_ACTIVATION], codes.IDENTITY
            if i in self.slopes:
                row[codes.L_SLOPE] = self.slopes[i]
        if result[codes.P_EMBEDDINGS]:
            self._inputs(result, layers[0])
        return result

    def _inputs(self, table, first):
        """Two layers behind all others: the embedded inputs, and layer 0's rows of W that belong to them."""
        numeric = embedding_rows(table)[0, codes.E_PLACE]
        start = codes.HEADER + (self.inputs - 1) * codes.LAYER_COLUMNS
        below, this = table[start:].reshape(2, codes.LAYER_COLUMNS)
        below[codes.L_A] = below[codes.L_DELTA] = table[codes.P_DX]
        below[codes.L_LDA], below[codes.L_ACTIVATION] = table[codes.P_LDDX], codes.IDENTITY
        for column in (codes.L_OUT, codes.L_DELTA, codes.L_LDA, codes.L_LDW):
            this[column] = first[column]
        this[codes.L_IN] = first[codes.L_IN] - numeric
        this[codes.L_W] = first[codes.L_W] + numeric * first[codes.L_LDW]
