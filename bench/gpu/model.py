"""What a training step on a GPU should take: launches, operations and bytes, as docs/gpu.md predicts it."""

from dataclasses import dataclass

import numpy as np

from fastbp.printing import markdown_table


@dataclass(frozen=True)
class Card:
    """processors; clock in GHz; memory in GB/s; microseconds of a launch inside a graph."""

    name: str
    processors: int
    clock: float
    memory: float
    launch: float = 1.5

    @property
    def tflops(self):
        """float32, 128 fused multiply-adds a processor and clock."""
        return 2e-3 * 128 * self.processors * self.clock


H200 = Card("H200", 132, 1.98, 4800)
RTX = Card("RTX class, 46 processors", 46, 2.5, 500)

SHARE = 0.75  # of the multiply-adds' peak that the inner loop should reach
TURN = 0.7  # us from asking for a slice of global memory to having multiplied it, with few blocks at work
SLOTS = {"adam": 2, "sgd": 0}


@dataclass
class Work:
    """Of one step: launches, gigaflop, megabytes that move, predicted microseconds."""

    launches: int
    gflop: float
    mbytes: float
    microseconds: float


def product(tile, rows, columns, depth, card, parts=1):
    """Microseconds of a tiled product: waves of blocks, each as long as its slices take."""
    blocks = -(-rows // tile.rows) * -(-columns // tile.columns) * parts
    there = card.processors * tile.resident
    each = -(-depth // parts)
    turns = -(-each // tile.depth)
    alone = tile.rows * tile.columns * tile.depth / (128 * card.clock * SHARE) * 1e-3
    crowd = min(tile.resident, max(1, blocks / card.processors))
    return -(-blocks // there) * (turns * max(TURN, alone * crowd) + 1.0)


def predict(case, card):
    """The Work of a case (bench/steps/cases.py) in float32."""
    from fastbp.kernels.cuda import dense, program

    shapes, layers, batch = dense.TILES[4], case.layers, case.batch
    microseconds = 0.0
    for number, (i, o) in enumerate(layers):
        tile = shapes[program.shape_for(4, [(batch, o)])]
        microseconds += max(card.launch, product(tile, batch, o, i, card))
        if number:
            tile = shapes[program.shape_for(4, [(batch, i)])]
            microseconds += max(card.launch, product(tile, batch, i, o, card))
    tile = shapes[program.shape_for(4, layers)]
    tiles = sum(-(-i // tile.rows) * -(-o // tile.columns) for i, o in layers)
    parts = 1
    if tile is shapes["small"]:
        parts = max(1, min(batch // program.PART, program.ENOUGH // tiles))
    state = 2 * (1 + SLOTS[case.optimizer]) * 4 * case.parameters
    update = product(tile, tile.rows * tiles, tile.columns, batch, card, parts)
    launches = 2 * len(layers) + 3 + (parts > 1)
    microseconds += max(card.launch, update, state / card.memory * 1e-3)
    microseconds += 3 * card.launch + (parts > 1) * max(card.launch, parts * state / card.memory * 1e-3)
    activations = sum(batch * 4 * (3 * i + 3 * o) for i, o in layers)
    moved = state + activations + 3 * 4 * sum(i * o for i, o in layers)
    return Work(launches, case.gflop, moved * 1e-6, microseconds)


def table(cases, cards=(H200, RTX)):
    """The page's table as Markdown."""
    head = ["workload", "network", "launches", "GFLOP", "MB", *(f"us, {c.name}" for c in cards)]
    rows = [head]
    for case in cases:
        works = [predict(case, card) for card in cards]
        numbers = [f"{w.microseconds:,.0f}" for w in works]
        one = works[0]
        rows.append(
            [case.name, case.shape, str(one.launches), f"{case.gflop:.3g}", f"{one.mbytes:.3g}", *numbers]
        )
    assert np.isfinite([predict(c, card).microseconds for c in cases for card in cards]).all()
    return markdown_table(rows, left=2)
