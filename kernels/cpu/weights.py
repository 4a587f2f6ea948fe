"""The second half of a step: the gradients of all weights, tile by tile, and what is done with them."""

from math import isfinite

import numpy as np

from .. import codes
from ..codes import S_TILE
from ..jit import jit
from .data import fetch
from .dense import (
    FIRST,
    LAST,
    MORE,
    WHOLE,
    add_rows,
    copy_rows,
    dense_update,
    pack_panels,
    slots_at,
    tile_height,
)
from .embeddings import embedding_update
from .layers import vector_update
from .norms import track_running
from .plan import (
    cut,
    header_of,
    layer_at,
    rows_from,
    share_of,
    weights_of,
    whole_vectors,
)
from .records import (
    Area,
    Matrix,
    Piece,
    Room,
    Rule,
    Slice,
)
from .rows import room_of
from .simd import (
    item_of,
    lanes_of,
    shift,
)
from .team import atomic_add, barrier, lap
from .updates import constrain, layer_constants, stored_update

trace_size = jit(codes.trace_size)

MOST_PARTS = 16  # that a thread's weight tiles are cut into at most, for others to take
LONG_PARTS = 4  # of long batches
PART_WORK = 1 << 20  # multiply-adds of a part at least: some 10 us
# rows of weights, and tiles across them, from which it pays to pack the deltas first
PACK_ROWS, PACK_PANELS = 32, 4


@jit
def weight_gradients(net, crew, rule, batch):
    """This thread's share of the weight tiles of all layers that train: gradient, and what ``rule``
    does with it.

    These layers' rows, each as long as its layer is wide, form one line that is cut into equal shares, and a
    share into parts. Who is done with his own takes the others' next ones: cores are seldom equally fast.
    """
    layers, threads, total = header_of(net.plan).layers, crew.threads, 0
    for index in range(layers):
        this = layer_at(net.plan, index)
        if this.frozen == 0:
            total += this.rows * whole_vectors(net.work, this.fan_out)
    parts = 1
    if threads > 1:  # whose parts are too short to be claimed one by one, has one
        parts = max(1, min(MOST_PARTS, total * lanes_of(net.work) * batch.rows // (threads * PART_WORK)))
    if batch.rows > codes.LONG:  # each part goes through the whole batch
        parts = min(parts, LONG_PARTS)
    # the layer whose deltas of other threads were asked for last; literals would compile all of this twice
    asked = np.int64(-1)
    for turn in range(threads if parts > 1 else 1):
        owner = crew.thread + turn if crew.thread + turn < threads else crew.thread + turn - threads
        claims = codes.SYNC + owner * trace_size(layers) + codes.T_CLAIMED
        part = 0 if parts == 1 else atomic_add(crew.sync, claims, 1)
        while part < parts:
            line = share_of(total, owner * parts + part, threads * parts)
            asked = weight_part(net, crew, rule, batch, line, asked)
            part = parts if parts == 1 else atomic_add(crew.sync, claims, 1)


@jit
def weight_part(net, crew, rule, batch, line, asked):
    """``weight_gradients`` of a part of its line. Returns the layer whose deltas were asked for last."""
    begin, end = line
    for index in range(header_of(net.plan).layers):
        this = layer_at(net.plan, index)
        if this.frozen != 0:
            continue
        vectors = whole_vectors(net.work, this.fan_out)
        # rows that start in [begin, end)
        row = min(this.rows, max(0, (begin + vectors - 1) // vectors))
        last = min(this.rows, max(0, (end + vectors - 1) // vectors))
        constants = layer_constants(crew.scratch, net.hyper, index, np.int64(1))
        behind = layer_constants(crew.scratch, net.hyper, index, np.int64(2))
        mine = Rule(rule.code, slots_at(rule, this.w), rule.arrays, constants, behind)
        if last > this.fan_in + 1 and last > row:  # gain and shift of a norm, slopes of prelu
            others = Slice(max(0, row - this.fan_in - 1), last - this.fan_in - 1)
            vector_update(net, this, mine, batch.rows, others, shift(crew.scratch, S_TILE))
            last = this.fan_in + 1
        if row < last:
            asked = layer_update(net, crew, mine, batch, index, Slice(row, last), asked)
        begin -= vectors * this.rows
        end -= vectors * this.rows
        lap(crew.trace, codes.TRACE + codes.PHASES * index + codes.PHASE_UPDATE)
    return asked


@jit
def ask_for_others(net, this, batch, rows, deltas):
    """Inputs, and with ``deltas`` these, of the batch's rows that other threads wrote: on their way."""
    work, item, own = net.work, item_of(net.work), batch.share.own
    width = lanes_of(work) * whole_vectors(work, this.fan_out)
    for r in range(batch.rows):
        if r < own.begin or r >= own.end:
            fetch(item * (rows.end - rows.begin), shift(work, this.x + r * this.ldx + rows.begin))
            if deltas:
                fetch(item * width, shift(work, this.delta + r * this.lda))


@jit
def layer_update(net, crew, rule, batch, index, rows, asked):
    """``weight_part`` of rows of weights, and of the bias, of layer ``index``.

    What other threads wrote is asked for first, deltas once for all parts of a layer: not those of layer
    ``asked``. Returns the layer that was last. A wide layer's deltas are packed, also for its next part.
    """
    work, this, room = net.work, layer_at(net.plan, index), room_of(net, crew)
    vectors = whole_vectors(work, this.fan_out)
    columns, w = Slice(0, vectors * lanes_of(work)), weights_of(net.params, this)
    x, delta = Matrix(shift(work, this.x), this.ldx), Matrix(shift(work, this.delta), this.lda)
    panels = (vectors - 1) // tile_height(work, 0) + 1
    wide = panels >= PACK_PANELS
    if crew.threads > 1 and batch.rows <= codes.LONG:
        ask_for_others(net, this, batch, rows, index != asked)
    packed = wide and index == asked
    asked = index if not wide else asked
    # of long batches a piece at a time: tiles find its inputs and deltas in L2, and no sum is long
    most, tallest, in_pieces = batch.rows, rows.end - rows.begin, batch.rows > codes.LONG
    if in_pieces:
        most, tallest = codes.LONG, codes.SUM_ROWS
    row = rows.begin
    while row < rows.end:
        last, start, number = row + cut(rows.end - row, tallest), 0, 0
        packed, pays = packed and not in_pieces, wide and last - row >= PACK_ROWS
        sums = shift(room.sums, -row * this.ldw)  # laid out as the weights
        here = Room(room.panel, room.tile, sums, room.one, room.zeros)
        while start < batch.rows:
            count, deltas = cut(batch.rows - start, most), rows_from(delta, start)
            part = part_of(number, start + count == batch.rows)
            add_chunk(number, part, last - row, vectors, Matrix(room.sums, this.ldw))
            if pays and (in_pieces or not packed):
                pack_panels(room.panel, deltas, count, columns)
                packed, asked = True, index
            dense_update(w, rule, rows_from(x, start), deltas, Area(Slice(row, last), columns),
                         Piece(count, part, packed), here)  # fmt: skip
            start, number = start + count, number + 1
        row = last
    return asked


@jit
def part_of(number, ends):
    """Which part of a long batch its piece ``number`` is: sums begin anew with each chunk of LONG pieces."""
    if ends:
        return WHOLE if number == 0 else LAST
    return FIRST if number % codes.LONG == 0 else MORE


@jit
def add_chunk(number, part, rows, vectors, sums):
    """Before piece ``number``: a full chunk is added to those before; at the last piece these to its own."""
    chunks = Matrix(shift(sums.pointer, codes.SUM_ROWS * sums.stride), sums.stride)
    if part == FIRST and number == codes.LONG:
        copy_rows(rows, vectors, chunks, sums)
    elif part == FIRST and number > 0:
        add_rows(rows, vectors, chunks, sums)
    elif part == LAST and number > codes.LONG:
        add_rows(rows, vectors, sums, chunks)


@jit
def rule_of(net, crew, task, adds):
    """Where the weight tiles go: fused into the update, or, on the second path, stored.

    adds: to what is there, of the update's batches before.
    """
    head, constants = header_of(net.plan), shift(crew.scratch, codes.S_CONSTANTS)
    code, slots, arrays = head.optimizer, Matrix(net.slots, head.size), 1 + head.slots
    if task.stores:
        code, slots, arrays = codes.ADD if adds else codes.STORE, Matrix(net.slots, 0), 2
        if task.trains:
            slots = Matrix(shift(net.work, head.gradient), 0)
    return Rule(code, slots, arrays, constants, constants)


@jit
def change_weights(net, crew, task, batch, update):
    """All gradients, and the update, if it is made with this batch; the second half of a step.

    Returns the gradient's norm, where it was asked for: if it is not finite, nothing is updated.
    """
    head, rule = header_of(net.plan), rule_of(net, crew, task, task.trains and update.part > 0)
    weight_gradients(net, crew, rule, batch)
    if head.embeddings != 0 and layer_at(net.plan, np.int64(0)).frozen == 0:
        of_tables = layer_constants(crew.scratch, net.hyper, np.int64(0), np.int64(1))
        own = Rule(rule.code, rule.slots, rule.arrays, of_tables, rule.bias_constants)
        embedding_update(net, own, batch.rows, task.stores, crew)
        lap(crew.trace, codes.T_EMBED)
    if task.stores and update.made:
        barrier(crew.sync, crew.threads)
        norm = stored_update(net, crew, task.clips, 1.0 / (update.part + 1))
        if not isfinite(norm):
            return norm
        lap(crew.trace, codes.T_CLIP)
    return 0.0


@jit
def after_update(net, crew, task, batch, update):
    """What follows an update: running statistics, limits on the weights, their average."""
    if task.learns and header_of(net.plan).meets != 0:
        track_running(net, batch.rows, crew)
        lap(crew.trace, codes.T_CONSTANTS)
    if task.constrains and update.made:
        barrier(crew.sync, crew.threads)
        constrain(net, crew)
        lap(crew.trace, codes.T_CONSTRAIN)
