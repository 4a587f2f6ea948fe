"""The first half of a step: some rows from the data through all layers, to the deltas of all layers."""

import numpy as np

from .. import codes
from ..codes import S_ONE, S_TILE
from ..jit import jit
from .data import convert_row, fetch, read_row
from .dense import (
    dense_backward,
    dense_forward,
)
from .embeddings import add_row, drop_input_gradients, gather_mixed
from .layers import drop_inputs, finish_layer
from .losses import link_rows, loss_rows
from .norms import batch_statistics, norm_backward
from .plan import (
    call_of,
    cut,
    header_of,
    layer_at,
    share_of,
    weights_of,
    whole_vectors,
)
from .records import (
    Area,
    Bypass,
    Matrix,
    Room,
    RowSums,
    Share,
    Slice,
    Targets,
    Weights,
)
from .simd import (
    address,
    get,
    lanes_of,
    put,
    shift,
)
from .team import barrier, lap

AHEAD_BYTES = 4096  # of shuffled samples that are on their way while one is read


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
