"""The dense layer: tiles for wide, middling and small layers.

As on the CPU the weight tile's epilogue is the update, so no gradient reaches memory; clipping,
gradients(), accumulation and batches cut into parts store it first, and updates.apply updates from there.
"""

from . import tile
from .device import LINE, SIMULATED, kernel
from .scalar import compiled
from .tile import Tile

# rows x columns of a block: 128 x 128, 64 x 64, 32 x 32 floats, half as high or wide in float64.
# The small one has little to share and much to wait for, so four groups of threads share its depth.
CARD = {
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
TINY = {  # a simulated thread costs 150 us: blocks of a few, ragged everywhere
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
TILES = TINY if SIMULATED else CARD
KINDS = {"dense_forward": tile.forward, "dense_backward": tile.backward, "dense_update": tile.update}


def build(names):
    """{name: kernel} for a namespace of scalar.functions: dense_forward_wide and so on."""
    size = names["dtype"].itemsize
    kernels = {}
    for shape, one in TILES[size].items():
        for kind, write in KINDS.items():
            name = f"{kind}_{shape}"
            [function] = compiled(write(name, one, LINE // size).text(), names, [name])
            resident = one.resident if kind != "dense_update" or shape != "wide" else 1
            kernels[name] = kernel(function, (one.threads, resident))  # its bias and slots take registers
    return kernels
