"""Updates that are no tile's epilogue: the second path, layers' constants, limits and averages of weights."""

import math

from numba import float64

from .. import codes
from ..codes import DEVICE
from .device import SIMULATED, cuda, device, kernel
from .folds import PATCH, PATCH_COLUMNS, PATCH_ROWS, fold_column, fold_sum

PASS_THREADS = 4 if SIMULATED else 256  # of a block of the passes over all parameters


@device
def blocks_of(size):
    """Blocks of a group's gradient whose squares are summed as one."""
    return (size + codes.NORM_BLOCK - 1) // codes.NORM_BLOCK


@device
def embedding(table, index):
    """Where the columns of one embedding are."""
    behind = DEVICE + codes.HEADER + table[DEVICE + codes.P_LAYERS] * codes.LAYER_COLUMNS
    return behind + table[DEVICE + codes.P_RUNS] * codes.RUN_COLUMNS + index * codes.EMBEDDING_COLUMNS


@device
def parameter_groups(table):
    """How many there are: the layers, then the tables of embeddings."""
    return table[DEVICE + codes.P_LAYERS] + table[DEVICE + codes.P_EMBEDDINGS]


@device
def parameter_group(table, index):
    """(first place, size, whether it trains, its layer, where biases, gains and shifts begin)."""
    layers, this = table[DEVICE + codes.P_LAYERS], DEVICE + codes.HEADER
    if index < layers:
        this += index * codes.LAYER_COLUMNS
        first, ld = table[this + codes.L_W], table[this + codes.L_LDW]
        bare = first + table[this + codes.L_FAN_IN] * ld
        return first, table[this + codes.L_ROWS] * ld, table[this + codes.L_FROZEN] == 0, index, bare
    entry = embedding(table, index - layers)
    first, size = table[entry + codes.E_TABLE], table[entry + codes.E_CATEGORIES] * table[entry + codes.E_LD]
    return first, size, table[this + codes.L_FROZEN] == 0, 0, first + size


@device
def constants_of(table, layer, block):
    """Where the constants lie of a layer's weights (block 1) or biases, gains and shifts (2)."""
    step = table[DEVICE + codes.P_SCRATCH] + codes.S_CONSTANTS
    return step + table[codes.G_APART] * (2 * layer + block)


def constants(names):
    """Adds update_constants and update_weight to a namespace of scalar.functions."""
    update = names["update"]

    @device
    def update_constants(mem, table, numbers, update):
        """To their place in the arena: the constants of the pass's ``update`` (from 0), from the window's."""
        c = table[DEVICE + codes.P_SCRATCH] + codes.S_CONSTANTS
        update -= int(numbers[codes.U_FIRST])
        given = codes.NUMBERS + table[DEVICE + codes.P_LAYERS] + codes.CONSTANTS * update
        for k in range(codes.CONSTANTS):
            mem[c + k] = numbers[given + k]

    @device
    def update_weight(mem, table, g, at, place):
        """The update of the weight at ``at`` with gradient g, as in dense_update; place: its constants."""
        size = table[DEVICE + codes.P_SIZE]
        code, slots = table[DEVICE + codes.P_OPTIMIZER], size + at
        if table[codes.G_STORE] != 0:
            code, slots = table[codes.G_KEEPS], table[codes.G_STORE] + at
        update(code, g, mem, table, at, slots, size, place)

    names |= {"update_constants": update_constants, "update_weight": update_weight}


def build(names):
    """{name: kernel} for a namespace of scalar.functions."""
    real, update, running = names["real"], names["update"], names["average"]
    zero = real(0)

    @kernel
    def layer_constants(mem, table, numbers):
        """The step's constants with each layer's factor, and, for biases, without penalties."""
        index = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
        layer, block = index // 2, 1 + index % 2
        if layer >= table[DEVICE + codes.P_LAYERS]:
            return
        step, own = table[DEVICE + codes.P_SCRATCH] + codes.S_CONSTANTS, constants_of(table, layer, block)
        factor = real(numbers[codes.NUMBERS + layer])
        bare = block == 2 and numbers[codes.H_BARE_BIAS] != 0.0
        for k in range(codes.CONSTANTS):
            value = mem[step + k]
            if k == codes.C_LR or k == codes.C_DECAY:
                value *= factor
            if bare and (k == codes.C_L1 or k == codes.C_L2 or k == codes.C_DECAY):
                value = zero
            mem[own + k] = value

    @kernel
    def apply(mem, table, numbers, source, parts, destination):
        """Update from the sum of ``parts`` gradient arrays at source; or, destination > 0, keep it there."""
        if table[codes.G_STOPPED] != 0 or (destination == 0 and table[codes.G_UPDATES] == 0):
            return
        size, code = table[DEVICE + codes.P_SIZE], table[DEVICE + codes.P_OPTIMIZER]
        done = 0
        for index in range(parameter_groups(table)):
            first, count, trains, layer, bare = parameter_group(table, index)
            factor = real(numbers[codes.U_FACTOR])
            if destination == 0 and numbers[codes.H_CLIP_LAYER] > 0.0:
                factor = mem[table[DEVICE + codes.P_PARTIALS] + done]
            done += blocks_of(count)
            last = first + count
            at = first + cuda.blockIdx.x * PASS_THREADS + cuda.threadIdx.x
            while trains and at < last:
                total = float(mem[source + at])
                for part in range(1, parts):
                    total += float(mem[source + part * size + at])
                g = real(total)
                if destination > 0:
                    if table[codes.G_PART] > 0:
                        g += mem[destination + at]
                    mem[destination + at] = g
                else:
                    place = constants_of(table, layer, 1 if at < bare else 2)
                    update(code, g * factor, mem, table, at, size + at, size, place)
                at += cuda.gridDim.x * PASS_THREADS

    @kernel
    def square_norm(mem, table):
        """Norms of the gradient array: one for each codes.NORM_BLOCK numbers of a group."""
        shared = cuda.shared.array(PASS_THREADS, float64)
        tid, number, index = cuda.threadIdx.x, cuda.blockIdx.x, 0
        first, size, _, _, _ = parameter_group(table, 0)
        while number >= blocks_of(size):
            number -= blocks_of(size)
            index += 1
            first, size, _, _, _ = parameter_group(table, index)
        last = first + min((number + 1) * codes.NORM_BLOCK, size)
        total = 0.0
        for at in range(first + number * codes.NORM_BLOCK + tid, last, PASS_THREADS):
            g = float(mem[table[DEVICE + codes.P_GRADIENT] + at])
            total += g * g
        total = fold_sum(shared, tid, PASS_THREADS, total)
        if tid == 0:
            mem[table[DEVICE + codes.P_PARTIALS] + cuda.blockIdx.x] = math.sqrt(total)

    @kernel
    def clip(mem, table, numbers):
        """One block: U_FACTOR *= min(1, clip_norm / norm); with clip_layer_norm a factor for each group, in
        the place of its first block's norm. A norm that is not finite takes the step back and stops."""
        shared = cuda.shared.array(PASS_THREADS, float64)
        tid, partials = cuda.threadIdx.x, table[DEVICE + codes.P_PARTIALS]
        if table[codes.G_STOPPED] != 0 or table[codes.G_UPDATES] == 0:
            return
        count = 0
        for index in range(parameter_groups(table)):
            _, size, _, _, _ = parameter_group(table, index)
            count += blocks_of(size)
        total, factor = 0.0, numbers[codes.U_FACTOR]
        for b in range(tid, count, PASS_THREADS):
            total += float(mem[partials + b]) ** 2
        norm = factor * math.sqrt(fold_sum(shared, tid, PASS_THREADS, total))
        if not math.isfinite(norm):
            if tid == 0:
                table[codes.G_STOPPED] = 1
                table[codes.G_STEP] -= 1
                table[codes.G_NUMBER] -= 1
                numbers[codes.U_LOSS] = norm
            return
        most = numbers[codes.H_CLIP_LAYER]
        if tid == 0 and numbers[codes.H_CLIP_NORM] > 0.0:
            numbers[codes.U_FACTOR] = factor * min(1.0, numbers[codes.H_CLIP_NORM] / (norm + 1e-6))
        if most > 0.0:
            first = 0
            for index in range(parameter_groups(table)):
                _, size, _, _, _ = parameter_group(table, index)
                total = 0.0
                for b in range(first + tid, first + blocks_of(size), PASS_THREADS):
                    total += float(mem[partials + b]) ** 2
                norm = factor * math.sqrt(fold_sum(shared, tid, PASS_THREADS, total))
                if tid == 0:
                    mem[partials + first] = factor * min(1.0, most / (norm + 1e-6))
                first += blocks_of(size)

    @kernel
    def constrain(mem, table, numbers):
        """w[:, c] *= most / (norm + 1e-7) where the norm of column c is above H_MAX_NORM. y: a layer."""
        shared = cuda.shared.array(PATCH, float64)
        tid = cuda.threadIdx.x
        this = DEVICE + codes.HEADER + cuda.blockIdx.y * codes.LAYER_COLUMNS
        if table[codes.G_STOPPED] != 0 or table[codes.G_UPDATES] == 0 or table[this + codes.L_FROZEN] != 0:
            return
        c, ld = cuda.blockIdx.x * PATCH_COLUMNS + tid % PATCH_COLUMNS, table[this + codes.L_LDW]
        rows = table[this + codes.L_FAN_IN] if c < table[this + codes.L_FAN_OUT] else 0
        total, at = 0.0, table[this + codes.L_W] + c
        for r in range(tid // PATCH_COLUMNS, rows, PATCH_ROWS):
            x = float(mem[at + r * ld])
            total += x * x
        norm = math.sqrt(fold_column(shared, tid, total))
        most = numbers[codes.H_MAX_NORM]
        if norm > most:
            factor = real(most / (norm + 1e-7))
            for r in range(tid // PATCH_COLUMNS, rows, PATCH_ROWS):
                mem[at + r * ld] = mem[at + r * ld] * factor

    @kernel
    def average(mem, table):
        """mean += share * (w - mean), the mean in the last slot: all of w at the first update."""
        if table[codes.G_STOPPED] != 0 or table[codes.G_UPDATES] == 0:
            return
        size = table[DEVICE + codes.P_SIZE]
        share = mem[table[DEVICE + codes.P_SCRATCH] + codes.S_CONSTANTS + codes.C_AVERAGE]
        mean = size * table[DEVICE + codes.P_SLOTS]
        at = cuda.blockIdx.x * PASS_THREADS + cuda.threadIdx.x
        while at < size:
            mem[mean + at] = running(mem[mean + at], mem[at], share)
            at += cuda.gridDim.x * PASS_THREADS

    return {"layer_constants": layer_constants, "apply": apply, "square_norm": square_norm, "clip": clip,
            "constrain": constrain, "average": average}  # fmt: skip
