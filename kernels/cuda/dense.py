"""The dense layer: tiles for wide, middling and small layers, and the gradient path's passes.

As on the CPU the weight tile's epilogue is the update, so no gradient reaches memory; clipping,
gradients() and batches cut into parts store it first, and ``apply`` updates from there.
"""

import math

from .. import codes
from ..codes import DEVICE
from . import tile
from .device import LINE, SIMULATED, cuda, device, kernel
from .scalar import compiled
from .tile import Tile

# rows x columns of a block: 128 x 128, 64 x 64, 32 x 32 floats, half as high or wide in float64.
# The small one has little to share and much to wait for, so four groups of threads share its depth.
TILES = {
    4: {
        "wide": Tile(16, (2, 4), (8, 4), (8, 8), unroll=1, resident=2),
        "middle": Tile(16, (1, 4), (8, 4), (8, 4), unroll=2, resident=4),
        "small": Tile(64, (2, 1), (4, 8), (4, 4), slices=4, unroll=4, resident=2),
    },
    8: {
        "wide": Tile(8, (2, 4), (8, 4), (8, 4), unroll=2),
        "middle": Tile(16, (1, 4), (8, 4), (4, 4), unroll=2, resident=2),
        "small": Tile(32, (2, 1), (4, 8), (4, 4), slices=4, unroll=2),
    },
}
if SIMULATED:  # a thread costs 150 us: blocks of a few, ragged everywhere
    TILES = {
        4: {
            "wide": Tile(8, (1, 1), (2, 2), (8, 2), unroll=2),
            "middle": Tile(8, (1, 1), (4, 2), (2, 4)),
            "small": Tile(8, (1, 1), (1, 2), (4, 2), slices=2),
        },
        8: {
            "wide": Tile(8, (1, 1), (2, 2), (4, 2), unroll=2),
            "middle": Tile(8, (1, 1), (4, 2), (2, 4)),
            "small": Tile(8, (1, 1), (1, 2), (4, 2), slices=2),
        },
    }
KINDS = {"dense_forward": tile.forward, "dense_backward": tile.backward, "dense_update": tile.update}
THREADS = 4 if SIMULATED else 256  # of a block of the passes over all parameters


def build(names):
    """{name: kernel} for a namespace of scalar.functions: dense_forward_wide and so on, and the passes."""
    real, number_type, update = names["real"], names["number_type"], names["update"]
    size = names["dtype"].itemsize
    zero = real(0)
    kernels = {}
    for shape, one in TILES[size].items():
        for kind, write in KINDS.items():
            name = f"{kind}_{shape}"
            [function] = compiled(write(name, one, LINE // size).text(), names, [name])
            resident = one.resident if kind != "dense_update" or shape != "wide" else 1
            kernels[name] = kernel(function, (one.threads, resident))  # its bias and slots take registers

    @kernel
    def apply(mem, table, numbers, source, parts, destination):
        """Update from the sum of ``parts`` gradient arrays at source; or, destination > 0, store it there."""
        if table[codes.G_STOPPED] != 0:
            return
        size, code = table[DEVICE + codes.P_SIZE], table[DEVICE + codes.P_OPTIMIZER]
        constants = table[DEVICE + codes.P_SCRATCH] + codes.S_CONSTANTS
        for index in range(table[DEVICE + codes.P_LAYERS]):
            this = DEVICE + codes.HEADER + index * codes.LAYER_COLUMNS
            if table[this + codes.L_FROZEN] != 0:
                continue
            first = table[this + codes.L_W]
            last = first + (table[this + codes.L_IN] + 1) * table[this + codes.L_LDW]
            at = first + cuda.blockIdx.x * THREADS + cuda.threadIdx.x
            while at < last:
                g = mem[source + at]
                for part in range(1, parts):
                    g += mem[source + part * size + at]
                if destination > 0:
                    mem[destination + at] = g
                else:
                    g *= real(numbers[codes.U_FACTOR])
                    update(code, g, mem, at, size + at, size, constants)
                at += cuda.gridDim.x * THREADS

    @device
    def fold(shared, tid):
        cuda.syncthreads()
        step = THREADS // 2
        while step > 0:
            if tid < step:
                shared[tid] = shared[tid] + shared[tid + step]
            cuda.syncthreads()
            step //= 2

    @kernel
    def square_norm(mem, table):
        """Partial sums of squares of the gradient array, one a block of codes.BLOCK numbers."""
        shared = cuda.shared.array(THREADS, number_type)
        tid, first = cuda.threadIdx.x, cuda.blockIdx.x * codes.BLOCK
        last = min(first + codes.BLOCK, table[DEVICE + codes.P_SIZE])
        total = zero
        for at in range(first + tid, last, THREADS):
            g = mem[table[DEVICE + codes.P_GRADIENT] + at]
            total += g * g
        shared[tid] = total
        fold(shared, tid)
        if tid == 0:
            mem[table[DEVICE + codes.P_PARTIALS] + cuda.blockIdx.x] = shared[0]

    @kernel
    def clip(mem, table, numbers):
        """U_FACTOR = min(1, clip_norm / norm); a norm that is not finite takes the step back and stops."""
        if cuda.threadIdx.x > 0 or table[codes.G_STOPPED] != 0:
            return
        total = 0.0
        for b in range((table[DEVICE + codes.P_SIZE] + codes.BLOCK - 1) // codes.BLOCK):
            total += float(mem[table[DEVICE + codes.P_PARTIALS] + b])
        norm = math.sqrt(total)
        if not math.isfinite(norm):
            table[codes.G_STOPPED] = 1
            table[codes.G_STEP] -= 1
            table[codes.G_NUMBER] -= 1
            numbers[codes.U_LOSS] = norm
            return
        numbers[codes.U_FACTOR] = min(1.0, numbers[codes.H_CLIP_NORM] / (norm + 1e-6))

    return kernels | {"apply": apply, "square_norm": square_norm, "clip": clip}
