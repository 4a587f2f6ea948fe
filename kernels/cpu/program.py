"""The compiled program: every network, loss, optimizer and mode, over flat arenas and three tables.

A step, as one thread of the team sees it:

    its rows:      gather -> forward through all layers -> loss and delta -> delta back through all
    barrier        (the loss of the whole batch is known: stop before anything changes if not finite)
    its weights:   tiles of all layers at once: gradient tile -> update in the epilogue
    barrier

Layers with norm, dropout, a skip or prelu finish their rows in layers.py; batch norm alone makes threads
meet there.
Two barriers a step, because rows do not meet before the update. Wide layers on many threads would
read all weights in every core: then the team is also split over columns (K_COLUMNS groups), with a
barrier after each layer. Every sum has one order, so no split changes a bit.
"""

import functools
from contextlib import nullcontext
from math import isfinite

import numpy as np
from numba import float64, from_dtype, int32, int64, prange, types
from numba.extending import intrinsic

from .. import codes
from ..codes import S_ONE, S_TILE
from ..jit import address_of, compiling, helped, jit, on_disk, program
from ..random import shuffle
from .data import convert_row, fetch, read_row
from .dense import (
    FIRST,
    LAST,
    MORE,
    WHOLE,
    add_rows,
    copy_rows,
    dense_backward,
    dense_forward,
    dense_update,
    pack_panels,
    slots_at,
    tile_height,
)
from .embeddings import add_row, drop_input_gradients, embedding_update, gather_mixed
from .layers import drop_inputs, finish_layer, vector_update
from .losses import broken_row, link_rows, loss_rows, sum_row
from .measure import multiply_adds
from .norms import batch_statistics, norm_backward, track_running
from .plan import (
    call_of,
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
    Batch,
    Bypass,
    Crew,
    Matrix,
    Net,
    Piece,
    Room,
    RowSums,
    Rule,
    Share,
    Slice,
    Targets,
    Task,
    Update,
    Weights,
)
from .simd import (
    LEAVES,
    address,
    bind_leaves,
    emit_leaves,
    get,
    item_of,
    lanes_of,
    pointer,
    put,
    shift,
)
from .team import any_broken, atomic_add, barrier, float_mode, gather_team, lap, note_overflow, ticks
from .updates import constrain, layer_constants, stored_update, update_constants

trace_size = jit(codes.trace_size)

MOST_PARTS = 16  # that a thread's weight tiles are cut into at most, for others to take
LONG_PARTS = 4  # of long batches
PART_WORK = 1 << 20  # multiply-adds of a part at least: some 10 us
# rows of weights, and tiles across them, from which it pays to pack the deltas first
PACK_ROWS, PACK_PANELS = 32, 4
AHEAD_BYTES = 4096  # of shuffled samples that are on their way while one is read


# --- rows: from the data to the deltas of all layers


@jit
def gather(net, start, rows):
    """Some rows of the batch that starts at sample ``start``: inputs and targets.

    Shuffled rows lie anywhere: those to come are asked for AHEAD_BYTES before they are read.
    Returns how many rows of inputs, and of targets, have numbers that are not finite.
    """
    work, head, call = net.work, header_of(net.plan), call_of(net.call)
    bad, plain, shuffled = 0, head.embeddings == 0, call.order != 0
    size = head.inputs * abs(call.x_col)
    ahead = max(1, min(16, AHEAD_BYTES // (size + 1)))
    fetched = rows.begin if call.x_type < codes.SPARSE else rows.end  # other rows are long to find
    for r in range(rows.begin, rows.end):
        while shuffled and fetched < min(rows.end, r + ahead + 1):
            sample = np.int64(get(net.order, start + fetched))
            fetch(size, address(work, call.x + sample * call.x_row))
            if call.y != 0:
                fetch(np.int64(1), address(work, call.y + sample * call.y_row))
            fetched += 1
        sample = start + r
        if shuffled:
            sample = np.int64(get(net.order, sample))
        if plain:
            bad += read_row(call.x_type, head.inputs, call.x, call.x_row, call.x_col, sample, net.plan,
                            shift(work, head.x + r * head.ldx))  # fmt: skip
        else:
            bad += gather_mixed(net, call.x + sample * call.x_row, r)
        if call.y != 0:
            bad += convert_row(call.y_type, head.targets + head.offsets, call.y + sample * call.y_row,
                               call.y_col, shift(work, head.target + r * head.ldt))  # fmt: skip
    return bad


@jit
def weigh(net, batch):
    """Fill P_ROWSCALE for this thread's rows: weight / total weight; returns the total weight."""
    call, (row, last) = call_of(net.call), batch.share.own
    scales = shift(net.work, header_of(net.plan).rowscale)
    if call.weight == 0:
        for r in range(row, last):
            put(scales, r, 1.0 / batch.rows)
        return np.float64(batch.rows)
    weights = address(net.work, call.weight)
    total = 0.0
    for r in range(batch.rows):  # every thread sums the whole batch: same order, no barrier
        sample = batch.start + r
        if call.order != 0:
            sample = np.int64(get(net.order, sample))
        weight = np.float64(get(weights, sample))
        total += weight
        if row <= r < last:
            put(scales, r, weight)
    scale = 1.0 / total if total > 0.0 else 0.0
    for r in range(row, last):
        put(scales, r, np.float64(get(scales, r)) * scale)
    return total


@jit
def meet(crew):
    """Where columns are shared out: wait for the others, and note how long."""
    if crew.groups > 1:
        barrier(crew.sync, crew.threads)
        lap(crew.trace, codes.T_WAIT)


@jit
def group_columns(work, crew, count):
    """This group's share of ``count`` columns, in whole vectors."""
    first, last = share_of(whole_vectors(work, count), crew.group, crew.groups)
    return Slice(first * lanes_of(work), last * lanes_of(work))


@jit
def forward(net, crew, batch, share, keep):
    """All layers of some rows: this group's share of the columns, then what takes whole rows."""
    params, work = net.params, net.work
    for index in range(header_of(net.plan).layers):
        this, place = layer_at(net.plan, index), codes.TRACE + codes.PHASES * index + codes.PHASE_FORWARD
        area = Area(share.group, group_columns(work, crew, this.fan_out))
        dense_forward(Matrix(shift(work, this.a), this.lda), shift(work, this.delta), keep,
                      Matrix(shift(work, this.x), this.ldx), weights_of(params, this), this.activation,
                      area)  # fmt: skip
        lap(crew.trace, place)
        meet(crew)
        if this.special != 0:
            if this.norm == codes.BATCH_NORM:
                batch_statistics(net, this, batch.rows, keep, crew)
            finish_layer(net, index, keep, batch.drops, share.own)
            lap(crew.trace, place)
            meet(crew)


@jit
def room_of(net, crew):
    """Where a thread's scratch lies."""
    head, scratch = header_of(net.plan), crew.scratch
    return Room(shift(scratch, head.panel), shift(scratch, S_TILE), shift(scratch, head.sums),
                shift(scratch, S_ONE), shift(net.work, head.zero))  # fmt: skip


@jit
def backward(net, crew, batch, share):
    """The deltas of the hidden layers down to the lowest that trains; the gradient of what inputs want one.

    Rows and columns are those of ``forward``.
    """
    work, head, room = net.work, header_of(net.plan), room_of(net, crew)
    for index in range(head.layers - 1, head.lowest, -1):
        this, below = layer_at(net.plan, index), layer_at(net.plan, index - 1)
        place = codes.TRACE + codes.PHASES * index + codes.PHASE_BACKWARD
        area = Area(share.group, group_columns(work, crew, this.fan_in))
        past = Matrix(shift(work, this.total), this.lda)
        bypass = Bypass(this.skip, past, below.total, shift(work, below.total))
        dense_backward(Matrix(shift(work, below.slope), below.lda), shift(work, below.a),
                       Matrix(shift(work, this.delta), this.lda), weights_of(net.params, this), below.derive,
                       area, room, bypass)  # fmt: skip
        lap(crew.trace, place)
        meet(crew)
        if below.norm != 0:
            norm_backward(net, below, batch.rows, share.own, crew)
            lap(crew.trace, place)
            meet(crew)
    if head.sought < layer_at(net.plan, np.int64(0)).fan_in:
        inputs_backward(net, crew, batch, share)


@jit
def inputs_backward(net, crew, batch, share):
    """The gradient of layer 0's inputs from P_SOUGHT on: all of them, or the embedded columns."""
    work, head, this = net.work, header_of(net.plan), layer_at(net.plan, np.int64(0))
    width = this.fan_in - head.sought
    w = Weights(shift(net.params, this.w + head.sought * this.ldw), this.ldw, width, this.fan_out)
    past = Matrix(shift(work, this.total + head.sought), this.lda)
    delta, area = (
        Matrix(shift(work, this.delta), this.lda),
        Area(share.group, group_columns(work, crew, width)),
    )
    dense_backward(Matrix(shift(work, head.dx), head.lddx), work, delta, w, codes.IDENTITY, area,
                   room_of(net, crew), Bypass(this.skip, past, 0, work))  # fmt: skip
    if batch.drops != 0 and head.dropout != 0:
        if crew.groups > 1:
            barrier(crew.sync, crew.threads)
        drop_input_gradients(net, batch.drops, share.own)
    lap(crew.trace, codes.TRACE + codes.PHASE_BACKWARD)


@jit
def add_offsets(net, rows):
    """Offsets of some rows, which lie behind their targets, to their outputs."""
    work, head = net.work, header_of(net.plan)
    top = layer_at(net.plan, head.layers - 1)
    for r in range(rows.begin, rows.end):
        add_row(head.outputs, shift(work, top.a + r * top.lda),
                shift(work, head.target + r * head.ldt + head.targets))  # fmt: skip


@jit
def judge(net, batch, rows):
    """Losses and deltas of some rows of outputs; returns how many are right."""
    work, head = net.work, header_of(net.plan)
    top = layer_at(net.plan, head.layers - 1)
    at, row = rows.begin * top.lda, rows.begin
    targets = Targets(shift(work, head.target + row * head.ldt), head.ldt, head.targets)
    sums = RowSums(shift(work, head.rowloss + row), shift(work, head.rowscale + row))
    return loss_rows(head.loss, rows.end - row, head.outputs, shift(work, head.numbers),
                     Matrix(shift(work, top.a + at), top.lda), targets, shift(work, top.delta + at),
                     sums)  # fmt: skip


@jit
def write_predictions(net, batch, rows, linked):
    """Outputs of some rows to where the call wants them, through the loss's link where ``linked``."""
    work, head, call = net.work, header_of(net.plan), call_of(net.call)
    top = layer_at(net.plan, head.layers - 1)
    at, out = rows.begin * top.lda, address(work, call.out)
    link_rows(head.loss if linked else -1, rows.end - rows.begin, head.outputs, shift(work, head.numbers),
              Matrix(shift(work, top.a + at), top.lda), shift(work, top.delta + at),
              Matrix(shift(out, (batch.start + rows.begin) * call.out_row), call.out_row))  # fmt: skip


@jit
def pass_block(net, crew, task, batch, share):
    """Some rows from the data through all layers, and back; returns how many are right, or not finite."""
    bad = gather(net, batch.start, share.own)
    if batch.drops != 0 and header_of(net.plan).dropout != 0:
        drop_inputs(net, batch.drops, share.own)
    lap(crew.trace, codes.T_GATHER)
    if crew.groups > 1:
        barrier(crew.sync, crew.threads)
    forward(net, crew, batch, share, 1 if task.backwards else 0)
    if header_of(net.plan).offsets != 0:
        add_offsets(net, share.own)
    if task.predicts:
        write_predictions(net, batch, share.own, task.mode == codes.PREDICT)
        return bad
    hits = judge(net, batch, share.own)
    if bad != 0:  # an activation may hide it, as relu does NaN: no such step is made
        put(net.work, header_of(net.plan).rowloss + share.own.begin, np.nan)
    lap(crew.trace, codes.T_LOSS)
    if task.backwards:
        meet(crew)
        backward(net, crew, batch, share)
    return hits


@jit
def pass_rows(net, crew, task, batch):
    """This thread's rows of a batch; returns how many are right, or not finite, and the batch's weight."""
    begin, end = batch.share.own
    weight = 0.0 if task.predicts else weigh(net, batch)
    # some rows pass all layers, then the next; where threads meet within the layers, all rows at once
    most = end - begin
    if crew.groups == 1 and header_of(net.plan).meets == 0:
        most = min(most, codes.BLOCK_ROWS)
    hits = 0
    while True:
        last = begin + cut(end - begin, most) if most > 0 else end
        rows = Slice(begin, last)
        hits += pass_block(
            net, crew, task, batch, Share(rows if crew.groups == 1 else batch.share.group, rows)
        )
        begin = last
        if begin >= end:
            return hits, weight


# --- weights: gradients, and what is done with them


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


# --- a window of steps


@jit
def task_of(net):
    """What the call asks of every step.

    trains: weights change; learns: a step of training, which drops and moves running statistics; backwards:
    gradients are made; stores: they are kept; every: batches an update; steps: of the whole epoch.
    """
    head, call, hyper = header_of(net.plan), call_of(net.call), net.hyper
    mode = call.mode
    trains = mode == codes.TRAIN
    learns = trains or mode == codes.COLLECT
    clips = get(hyper, codes.H_CLIP_NORM) > 0.0 or get(hyper, codes.H_CLIP_LAYER) > 0.0
    every = max(1, np.int64(get(hyper, codes.H_ACCUMULATE)))
    constrains = (trains or mode == codes.APPLY) and get(hyper, codes.H_MAX_NORM) > 0.0
    predicts = mode == codes.PREDICT or mode == codes.FORWARD
    return Task(mode, trains, learns, learns or mode == codes.GRADIENTS, predicts,
                clips or every > 1 or not trains, clips, constrains, every,
                (call.samples + head.batch - 1) // head.batch)  # fmt: skip


@jit
def crew_of(net, sync, thread, threads):
    """This thread's place in the team."""
    head = header_of(net.plan)
    groups = call_of(net.call).columns if threads > 1 else 1
    trace = shift(sync, codes.SYNC + thread * trace_size(head.layers))
    scratch = shift(net.work, head.scratch + thread * head.scratch_size)
    return Crew(thread, threads, thread % groups, groups, sync, trace, scratch)


@jit
def update_of(net, crew, task, step):
    """The update that a step belongs to; its constants go into the scratch if it is made."""
    part, call = step % task.every, call_of(net.call)
    changes = task.trains or task.mode == codes.APPLY
    made = changes and (part == task.every - 1 or step == task.steps - 1)
    if made:
        number = step // task.every - call.first // task.every
        update_constants(crew.scratch, net.call, net.hyper, number)
        lap(crew.trace, codes.T_CONSTANTS)
    return Update(call.step + step // task.every + 1, part, made)


@jit
def batch_of(net, crew, task, step, update):
    """The batch of a step, and this thread's share of it: the group's rows, and a part of them for what is
    not cut into columns."""
    head, call = header_of(net.plan), call_of(net.call)
    start = step * head.batch
    rows = min(head.batch, call.samples - start)
    begin, end = share_of(rows, crew.thread // crew.groups, crew.threads // crew.groups)
    first, last = share_of(end - begin, crew.group, crew.groups)
    # counts batches, also of several an update
    drops = (update.number - 1) * task.every + update.part + 1 if task.learns else 0
    if task.predicts and call.step > 0:
        drops = call.step + step
    return Batch(start, rows, drops, Share(Slice(begin, end), Slice(begin + first, begin + last)))


@jit
def batch_loss(net, crew, batch):
    """The loss of the whole batch, which every thread sums: one order."""
    sum_row(batch.rows, shift(net.work, header_of(net.plan).rowloss), shift(crew.scratch, S_TILE))
    return np.float64(get(crew.scratch, S_TILE))


@jit
def deltas_broken(net, crew, task, batch):
    """Whether a delta is not finite: of a step of training on whose way something has overflowed."""
    if not task.learns or get(crew.sync, codes.Y_RAISED) == 0:
        return False
    head, rows, bad = header_of(net.plan), batch.share.own, 0
    for index in range(head.lowest, head.layers):
        this = layer_at(net.plan, index)
        for r in range(rows.begin, rows.end):
            bad |= broken_row(this.fan_out, shift(net.work, this.delta + r * this.lda))
    if head.embeddings != 0 and head.lowest == 0:
        width = layer_at(net.plan, np.int64(0)).fan_in - head.sought
        for r in range(rows.begin, rows.end):
            bad |= broken_row(width, shift(net.work, head.dx + r * head.lddx))
    return any_broken(crew, 0, bad != 0)


@jit
def state_broken(net, crew):
    """Whether a parameter, or a number that the optimizer keeps, is not finite after an update in which
    something has overflowed."""
    note_overflow(crew.sync, 1)
    barrier(crew.sync, crew.threads)
    if get(crew.sync, codes.Y_RAISED + 1) == 0:
        return False
    head = header_of(net.plan)
    begin, end = share_of(head.size, crew.thread, crew.threads)
    bad = broken_row(end - begin, shift(net.params, begin))
    for s in range(head.slots):
        bad |= broken_row(end - begin, shift(net.slots, s * head.size + begin))
    return any_broken(crew, 1, bad != 0)


@jit
def apply_gradients(net, crew, task):
    """One update from the gradient arena, whoever filled it; returns (whether it was made, whether what is
    there now is not finite)."""
    if not isfinite(stored_update(net, crew, True, 1.0)):
        return 0, False
    if task.constrains:
        barrier(crew.sync, crew.threads)
        constrain(net, crew)
    lost = state_broken(net, crew)
    return 0 if lost else 1, lost


@jit
def report(net, crew, sums, done, hits, lost):
    """Into the results: sums of losses and weights, steps done, threads, this thread's right answers."""
    if crew.thread == 0:
        put(net.results, codes.RESULT_LOST, np.float64(lost))
        put(net.results, codes.RESULT_LOSS, sums[0])
        put(net.results, codes.RESULT_WEIGHT, sums[1])
        put(net.results, codes.RESULT_STEPS, np.float64(done))
        put(net.results, codes.RESULT_THREADS, np.float64(crew.threads))
    put(net.results, codes.RESULTS + crew.thread, np.float64(hits))


@program(python=False)
def worker(net, sync, thread, threads):
    """One thread of the team runs steps [K_FIRST, K_LAST) of an epoch."""
    call, crew, task = call_of(net.call), crew_of(net, sync, thread, threads), task_of(net)
    put(crew.scratch, S_ONE, 1.0)
    hits, done, loss_sum, weight_sum = 0, 0, 0.0, 0.0
    if thread == 0 and call.first > 0:  # one sum over all windows of an epoch: one order
        loss_sum, weight_sum = get(net.results, codes.RESULT_LOSS), get(net.results, codes.RESULT_WEIGHT)
    put(crew.trace, codes.T_LAST, ticks() if call.trace != 0 else 0)
    before, lost = float_mode(1, 0), False
    for step in range(call.first, call.last):
        update = update_of(net, crew, task, step)
        if task.mode == codes.APPLY:
            done, lost = apply_gradients(net, crew, task)
            break
        put(crew.trace, codes.T_CLAIMED, 0)  # since the barrier nobody claims parts any more
        batch = batch_of(net, crew, task, step, update)
        found, weight = pass_rows(net, crew, task, batch)
        hits += found
        note_overflow(sync, 0)
        barrier(sync, threads)  # of predictions too: a shorter last batch is cut elsewhere
        done += 1
        if task.predicts:
            continue
        lap(crew.trace, codes.T_WAIT)
        loss = np.nan if deltas_broken(net, crew, task, batch) else batch_loss(net, crew, batch)
        if task.trains and not isfinite(loss):
            loss_sum, done = loss, done - 1
            break
        loss_sum += loss * weight
        weight_sum += weight
        if task.backwards:
            norm = change_weights(net, crew, task, batch, update)
            if not isfinite(norm):
                loss_sum, done = norm, done - 1
                break
            if isfinite(loss):
                after_update(net, crew, task, batch, update)
        if not task.trains:
            barrier(sync, threads)
        elif state_broken(net, crew):  # which meets the others there
            lost, done = True, done - 1
            break
        lap(crew.trace, codes.T_WAIT)
    float_mode(0, before)
    report(net, crew, (loss_sum, weight_sum), done, hits, lost)


@intrinsic
def call_worker(typingctx, number, net, sync, thread, threads):
    """worker(net, ...), by its address: it is compiled apart, not twice in run, and not before it."""

    def codegen(context, builder, sig, args):
        types_of, values = sig.args[1:], args[1:]
        kind = context.call_conv.get_function_type(sig.return_type, types_of)
        function = builder.inttoptr(args[0], kind.as_pointer())
        context.call_conv.call_function(builder, function, sig.return_type, types_of, values)
        return context.get_dummy_value()

    return types.none(number, net, sync, thread, threads), codegen


@jit
def net_of(arenas, tables, results, order):
    """Pointers to all that ``run`` is given."""
    (params, slots, work), (plan, call, hyper) = arenas, tables
    return Net(pointer(params), pointer(slots), pointer(work), pointer(plan), pointer(call), pointer(hyper),
               pointer(results), pointer(order))  # fmt: skip


@program(parallel=True)
def run(arenas, tables, results, order, sync):
    """Run the steps that ``call`` names on K_THREADS threads: the one function that Python calls.

    arenas: (params, slots, work) of one dtype; tables: (plan, call, hyper), see tables.py; results (RESULTS +
    threads,) float64, overwritten; order (N,) int32; sync (SYNC,) int64, scratch of the team.
    """
    call = tables[1]
    threads, number = call[codes.K_THREADS], call[codes.K_WORKER]
    nobody, one = np.int64(0), np.int64(1)  # not literals: those would compile the worker again
    if call[codes.K_MODE] == codes.SHUFFLE:
        shuffle(order, call[codes.K_SEED], call[codes.K_STREAM])
    elif threads <= 1:
        call_worker(number, net_of(arenas, tables, results, order), pointer(sync), nobody, one)
    else:
        (params, slots, work), (plan, call, hyper) = arenas, tables
        for place in range(codes.SYNC):
            sync[place] = 0
        for index in prange(threads):
            thread = np.int64(index)  # prange counts in unsigned numbers
            team = gather_team(pointer(sync), threads)
            if team == 1:
                thread = 0
            if team > 0:
                net = net_of((params, slots, work), (plan, call, hyper), results, order)
                call_worker(number, net, pointer(sync), thread, team)


@program()
def leaves(table, like):
    """The addresses of all functions written as IR, for ``like``'s dtype, into table (int64)."""
    emit_leaves(table, like)


@program()
def peak(passes, numbers):
    """measure.CHAINS * passes vectors of multiply-adds; returns the lanes of a vector."""
    multiply_adds(passes, pointer(numbers))
    return lanes_of(pointer(numbers))


def _signatures(floats):
    """Of worker and run, for numba's type of the floats."""
    arenas, rest = (floats,) * 3 + (int64, int64, float64), (float64, int32, int64)
    net = types.NamedTuple([types.CPointer(kind) for kind in (*arenas, *rest[:2])], Net)
    arrays, others = [kind[::1] for kind in arenas], tuple(kind[::1] for kind in rest)
    arguments = types.UniTuple(arrays[0], 3), types.Tuple(arrays[3:]), *others
    return (net, types.CPointer(int64), int64, int64), arguments


def compiled(dtype):
    """Whether what takes longest lies on the disk for a numpy dtype; None where nothing can be kept."""
    return on_disk(worker, _signatures(from_dtype(dtype))[0])


@functools.cache
def load(dtype):
    """Compile, or load from the disk cache, what networks of one numpy dtype need: (run, K_WORKER for it).

    Where worker, the longest, must be compiled and can be kept, another process does that meanwhile, and all
    others wait. It calls the functions written as IR by their symbols, so they are there first.
    """
    floats = from_dtype(dtype)
    table = np.empty(len(LEAVES), np.int64)
    of_worker, of_run = _signatures(floats)
    with compiling(worker, of_worker) as anew:
        with helped(__name__, dtype) if anew else nullcontext():
            leaves(table, np.empty(0, dtype))
            run.compile(of_run)
        bind_leaves(table, floats)
        return run, address_of(worker, of_worker)


def compile_to_disk(dtype):
    """Compile worker for another process; in this one it cannot run: what it calls is not here."""
    floats = from_dtype(dtype)
    nowhere = np.zeros(1, np.int64)
    bind_leaves(np.full(len(LEAVES), nowhere.ctypes.data), floats)
    worker.compile(_signatures(floats)[0])
