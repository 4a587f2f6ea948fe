"""What belongs together travels together: the records that kernels take, instead of twenty numbers.

Records of pointers and integers only; Numba and LLVM take them apart, so they cost nothing. Those in
LEAF_RECORDS may be arguments of functions written as IR (``simd.emitted``), by the letter there.
"""

from typing import NamedTuple

# --- what the leaves take


class Matrix(NamedTuple):
    """Rows of floats, ``stride`` apart. Of the optimizer's arrays each is a row."""

    pointer: object
    stride: int


class Strided(NamedTuple):
    """A matrix that is read element by element: steps to the next row and to the next column."""

    pointer: object
    row: int
    column: int


class Ahead(NamedTuple):
    """What a tile asks for while it runs: rows, in several arrays, for what comes next.

    rows ``stride`` apart, at ``pointer`` and in ``arrays`` - 1 more, the first of them ``first`` further on,
    the others ``jump`` apart; writes: 1 where they will be written.
    """

    pointer: object
    stride: int
    first: int
    jump: int
    arrays: int
    writes: int


class Targets(NamedTuple):
    """Targets of some rows: ``count`` numbers each, rows ``stride`` apart."""

    pointer: object
    stride: int
    count: int


class RowSums(NamedTuple):
    """Of each row its loss, and what it counts in the batch."""

    losses: object
    scales: object


class Origin(NamedTuple):
    """Row of the batch and column of the layer where a block begins."""

    row: int
    column: int


class Draw(NamedTuple):
    """What decides which numbers are dropped: seed, number of the batch, and place (0: the inputs, else the
    layer's number + 1); rate: in 1 / DROPOUT_RANGE."""

    seed: int
    batch: int
    place: int
    rate: int


LEAF_RECORDS = {  # letter of a record: (the record, the letters of its fields)
    "m": (Matrix, "pi"),
    "s": (Strided, "pii"),
    "a": (Ahead, "piiiii"),
    "t": (Targets, "pii"),
    "w": (RowSums, "pp"),
    "o": (Origin, "ii"),
    "d": (Draw, "iiii"),
}

# --- what is cut


class Slice(NamedTuple):
    """[begin, end)"""

    begin: int
    end: int


class Area(NamedTuple):
    """Rows and columns of a matrix; columns are whole vectors, padding included."""

    rows: Slice
    columns: Slice


class Weights(NamedTuple):
    """A layer's weights, (fan_in, fan_out), and the bias as the row behind them."""

    pointer: object
    stride: int
    fan_in: int
    fan_out: int


class Upcoming(NamedTuple):
    """The panel that a product reads next: each tile asks for as many of its rows as ``tiles`` tiles have."""

    pointer: object
    stride: int
    tiles: int


class Room(NamedTuple):
    """A thread's scratch, see tables.S, and a vector of zeros."""

    panel: object
    tile: object
    sums: object
    one: object
    zeros: object


class Bypass(NamedTuple):
    """What goes past a layer. With ``adds``, ``gradient`` is added to the one that comes through its weights;
    with ``keeps``, the sum is kept at ``total`` too, laid out as the layer's inputs."""

    adds: int
    gradient: Matrix
    keeps: int
    total: object


class Rule(NamedTuple):
    """What is done with a gradient: an optimizer's step, or STORE or ADD into ``slots``.

    slots: the optimizer's arrays, each laid out as the parameters; arrays: how many a step reads, the
    parameters among them; constants (codes.C_...): for weights, and for the rows behind them.
    """

    code: int
    slots: Matrix
    arrays: int
    constants: object
    bias_constants: object


class Piece(NamedTuple):
    """Some rows of a long batch, of which a gradient is summed.

    part: WHOLE, FIRST, MORE or LAST; packed: whether the panel of Room holds their deltas already.
    """

    rows: int
    part: int
    packed: bool


# --- what threads and phases take


class Net(NamedTuple):
    """The arenas and tables of a call: pointers to what ``program.run`` is given."""

    params: object
    slots: object
    work: object
    plan: object
    call: object
    hyper: object
    results: object
    order: object


class Crew(NamedTuple):
    """Which thread this is, of how many, in which of the groups that share columns; where they meet, where it
    notes its times, and its scratch."""

    thread: int
    threads: int
    group: int
    groups: int
    sync: object
    trace: object
    scratch: object


class Share(NamedTuple):
    """Rows of the batch: those that this group multiplies, and those that this thread finishes."""

    group: Slice
    own: Slice


class Batch(NamedTuple):
    """A batch: its first sample, its rows, its number for what is dropped (0: nothing is), and this thread's
    share of it."""

    start: int
    rows: int
    drops: int
    share: Share


class Task(NamedTuple):
    """What a call asks of every step, see ``program.task_of``."""

    mode: int
    trains: bool
    learns: bool
    backwards: bool
    predicts: bool
    stores: bool
    clips: bool
    constrains: bool
    every: int
    steps: int


class Update(NamedTuple):
    """The update that a batch belongs to: its number, which of its batches this is, whether it is made."""

    number: int
    part: int
    made: bool
