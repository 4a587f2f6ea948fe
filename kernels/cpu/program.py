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
from ..codes import (
    K_COLUMNS,
    K_FIRST,
    K_LAST,
    K_MODE,
    K_ORDER,
    K_OUT,
    K_OUT_ROW,
    K_SAMPLES,
    K_SEED,
    K_STEP,
    K_STREAM,
    K_THREADS,
    K_WEIGHT,
    K_WORKER,
    K_X,
    K_X_COL,
    K_X_ROW,
    K_X_TYPE,
    K_Y,
    K_Y_COL,
    K_Y_ROW,
    K_Y_TYPE,
    L_A,
    L_ACTIVATION,
    L_DELTA,
    L_DERIVE,
    L_FAN_IN,
    L_FAN_OUT,
    L_FROZEN,
    L_LDA,
    L_LDW,
    L_LDX,
    L_NORM,
    L_ROWS,
    L_SKIP,
    L_SLOPE,
    L_SPECIAL,
    L_TOTAL,
    L_W,
    L_X,
    P_BATCH,
    P_DROPOUT,
    P_DX,
    P_EMBEDDINGS,
    P_GRADIENT,
    P_INPUTS,
    P_LAYERS,
    P_LDDX,
    P_LDT,
    P_LDX,
    P_LOSS,
    P_LOWEST,
    P_MEETS,
    P_NUMBERS,
    P_OPTIMIZER,
    P_OUTPUTS,
    P_PANEL,
    P_ROWLOSS,
    P_ROWSCALE,
    P_SCRATCH,
    P_SCRATCH_SIZE,
    P_SIZE,
    P_SLOTS,
    P_SUMS,
    P_TARGET,
    P_TARGETS,
    P_X,
    P_ZERO,
    S_ONE,
    S_TILE,
)  # fmt: skip
from ..jit import address_of, helped, jit, on_disk, program
from ..random import shuffle
from .data import convert_row, fetch, read_row
from .dense import (
    FIRST,
    LAST,
    MORE,
    WHOLE,
    cut,
    dense_backward,
    dense_forward,
    dense_update,
    layer,
    pack_panels,
    share_of,
    tile_height,
    whole_vectors,
)
from .embeddings import drop_input_gradients, embedded_from, embedding_update, gather_mixed
from .layers import drop_inputs, finish_layer, vector_update
from .losses import link_rows, loss_rows, sum_row
from .measure import multiply_adds
from .norms import batch_statistics, norm_backward, track_running
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
from .team import atomic_add, barrier, float_mode, gather_team, lap, ticks
from .updates import constrain, layer_constants, stored_update, update_constants

trace_size = jit(codes.trace_size)

PARTS = 16  # that a thread's weight tiles are cut into at most, for others to take
LONG_PARTS = 4  # of long batches
PART = 1 << 20  # multiply-adds of a part at least: some 10 us
FEW, PANELS = 32, 4  # rows of weights, and tiles across them, from which it pays to pack the deltas first
AHEAD = 4096  # bytes of shuffled samples that are on their way while one is read


@jit
def gather(params, work, plan, call, order, start, row, last):
    """Rows [row, last) of the batch that starts at sample ``start``: inputs and targets.

    Shuffled rows lie anywhere: those to come are asked for AHEAD bytes before they are read.
    Returns in how many rows an input is not finite.
    """
    bad, plain = 0, get(plan, P_EMBEDDINGS) == 0
    shuffled = get(call, K_ORDER) != 0
    size = get(plan, P_INPUTS) * abs(get(call, K_X_COL))
    ahead = max(1, min(16, AHEAD // (size + 1)))
    fetched = row if get(call, K_X_TYPE) < codes.SPARSE else last  # other rows are long to find
    for r in range(row, last):
        while shuffled and fetched < min(last, r + ahead + 1):
            sample = np.int64(get(order, start + fetched))
            fetch(size, address(work, get(call, K_X) + sample * get(call, K_X_ROW)))
            if get(call, K_Y) != 0:
                fetch(np.int64(1), address(work, get(call, K_Y) + sample * get(call, K_Y_ROW)))
            fetched += 1
        sample = start + r
        if shuffled:
            sample = np.int64(get(order, sample))
        if plain:
            bad += read_row(get(call, K_X_TYPE), get(plan, P_INPUTS), get(call, K_X), get(call, K_X_ROW),
                            get(call, K_X_COL), sample, plan,
                            shift(work, get(plan, P_X) + r * get(plan, P_LDX)))  # fmt: skip
        else:
            source = get(call, K_X) + sample * get(call, K_X_ROW)
            bad += gather_mixed(params, work, plan, get(call, K_X_TYPE), source, get(call, K_X_COL), r)
        if get(call, K_Y) != 0:
            convert_row(get(call, K_Y_TYPE), get(plan, P_TARGETS),
                        get(call, K_Y) + sample * get(call, K_Y_ROW), get(call, K_Y_COL),
                        shift(work, get(plan, P_TARGET) + r * get(plan, P_LDT)))  # fmt: skip
    return bad


@jit
def weigh(work, plan, call, order, start, batch, row, last):
    """Fill P_ROWSCALE for rows [row, last): weight / total weight; returns the total weight."""
    scales = shift(work, get(plan, P_ROWSCALE))
    if get(call, K_WEIGHT) == 0:
        for r in range(row, last):
            put(scales, r, 1.0 / batch)
        return np.float64(batch)
    weights = address(work, get(call, K_WEIGHT))
    shuffled = get(call, K_ORDER) != 0
    total = 0.0
    for r in range(batch):  # every thread sums the whole batch: same order, no barrier
        sample = start + r
        if shuffled:
            sample = np.int64(get(order, sample))
        weight = np.float64(get(weights, sample))
        total += weight
        if row <= r < last:
            put(scales, r, weight)
    scale = 1.0 / total if total > 0.0 else 0.0
    for r in range(row, last):
        put(scales, r, np.float64(get(scales, r)) * scale)
    return total


@jit
def forward(params, work, plan, call, keep, drops, batch, row, last, own, own_last, group, groups, sync,
            thread, threads, trace):  # fmt: skip
    """All layers, rows [row, last), this group's share of the columns; [own, own_last) where rows are whole.

    drops: number of the step, for what is dropped, or 0.
    """
    lanes = lanes_of(work)
    for index in range(get(plan, P_LAYERS)):
        this = layer(plan, index)
        vectors = whole_vectors(work, get(this, L_FAN_OUT))
        dense_forward(
            shift(work, get(this, L_A)), get(this, L_LDA), shift(work, get(this, L_DELTA)), keep,
            shift(work, get(this, L_X)), get(this, L_LDX), shift(params, get(this, L_W)),
            get(this, L_LDW), get(this, L_FAN_IN), get(this, L_ACTIVATION), row, last,
            vectors * group // groups * lanes, vectors * (group + 1) // groups * lanes,
        )  # fmt: skip
        lap(trace, codes.TRACE + codes.PHASES * index + codes.PHASE_FORWARD)
        if groups > 1:
            barrier(sync, threads)
            lap(trace, codes.T_WAIT)
        if get(this, L_SPECIAL) != 0:
            if get(this, L_NORM) == codes.BATCH_NORM:
                batch_statistics(params, work, this, batch, keep, sync, thread, threads)
            finish_layer(params, work, this, index, keep, get(call, K_SEED), drops, own, own_last)
            lap(trace, codes.TRACE + codes.PHASES * index + codes.PHASE_FORWARD)
            if groups > 1:
                barrier(sync, threads)
                lap(trace, codes.T_WAIT)


@jit
def backward(params, work, plan, call, scratch, drops, batch, row, last, own, own_last, group, groups, sync,
             thread, threads, trace):  # fmt: skip
    """The deltas of the hidden layers down to the lowest that trains, rows and columns as in ``forward``,
    and of embedded inputs."""
    lanes = lanes_of(work)
    for index in range(get(plan, P_LAYERS) - 1, get(plan, P_LOWEST), -1):
        this, below = layer(plan, index), layer(plan, index - 1)
        inner = get(this, L_FAN_IN)
        vectors = whole_vectors(work, inner)
        dense_backward(
            shift(work, get(below, L_SLOPE)), get(below, L_LDA), shift(work, get(below, L_A)),
            shift(work, get(this, L_DELTA)), get(this, L_LDA), shift(params, get(this, L_W)),
            get(this, L_LDW), get(this, L_FAN_OUT), inner, get(below, L_DERIVE), row, last,
            vectors * group // groups * lanes, vectors * (group + 1) // groups * lanes,
            shift(scratch, get(plan, P_PANEL)), shift(scratch, S_TILE), shift(work, get(plan, P_ZERO)),
            get(this, L_SKIP), shift(work, get(this, L_TOTAL)), get(this, L_LDA),
            get(below, L_TOTAL), shift(work, get(below, L_TOTAL)),
        )  # fmt: skip
        lap(trace, codes.TRACE + codes.PHASES * index + codes.PHASE_BACKWARD)
        if groups > 1:
            barrier(sync, threads)
            lap(trace, codes.T_WAIT)
        if get(below, L_NORM) != 0:
            norm_backward(params, work, below, batch, own, own_last, sync, thread, threads)
            lap(trace, codes.TRACE + codes.PHASES * index + codes.PHASE_BACKWARD)
            if groups > 1:
                barrier(sync, threads)
                lap(trace, codes.T_WAIT)
    if get(plan, P_EMBEDDINGS) != 0 and get(plan, P_LOWEST) == 0:
        first = layer(plan, 0)
        numeric = embedded_from(plan)
        vectors = whole_vectors(work, get(first, L_FAN_IN) - numeric)
        dense_backward(
            shift(work, get(plan, P_DX)), get(plan, P_LDDX), work, shift(work, get(first, L_DELTA)),
            get(first, L_LDA), shift(params, get(first, L_W) + numeric * get(first, L_LDW)),
            get(first, L_LDW), get(first, L_FAN_OUT), get(first, L_FAN_IN) - numeric, codes.IDENTITY, row,
            last,
            vectors * group // groups * lanes, vectors * (group + 1) // groups * lanes,
            shift(scratch, get(plan, P_PANEL)), shift(scratch, S_TILE), shift(work, get(plan, P_ZERO)),
            get(first, L_SKIP), shift(work, get(first, L_TOTAL) + numeric), get(first, L_LDA), 0, work,
        )  # fmt: skip
        if drops != 0 and get(plan, P_DROPOUT) != 0:
            if groups > 1:
                barrier(sync, threads)
            drop_input_gradients(work, plan, get(call, K_SEED), drops, own, own_last)
        lap(trace, codes.TRACE + codes.PHASE_BACKWARD)


@jit
def weight_gradients(params, slots, stride, work, plan, hyper, scratch, batch, mine, mine_last, code,
                     arrays, sync, share, threads, trace):  # fmt: skip
    """This thread's share of the weight tiles of all layers that train: gradient, and what ``code``
    does with it.

    These layers' rows, each as long as its layer is wide, form one line that is cut into equal shares, and a
    share into parts. Who is done with his own takes the others' next ones: cores are seldom equally fast.
    """
    total = 0
    for index in range(get(plan, P_LAYERS)):
        this = layer(plan, index)
        if get(this, L_FROZEN) == 0:
            total += get(this, L_ROWS) * whole_vectors(work, get(this, L_FAN_OUT))
    parts = 1
    if threads > 1:  # whose parts are too short to be claimed one by one, has one
        parts = max(1, min(PARTS, total * lanes_of(work) * batch // (threads * PART)))
    if batch > codes.LONG:  # each part goes through the whole batch
        parts = min(parts, LONG_PARTS)
    asked = -1  # the layer whose deltas of other threads were asked for last
    for turn in range(threads if parts > 1 else 1):
        owner = share + turn if share + turn < threads else share + turn - threads
        claims = codes.SYNC + owner * trace_size(get(plan, P_LAYERS)) + codes.T_CLAIMED
        part = 0 if parts == 1 else atomic_add(sync, claims, 1)
        while part < parts:
            begin, end = share_of(total, owner * parts + part, threads * parts)
            asked = weight_part(params, slots, stride, work, plan, hyper, scratch, batch, mine, mine_last,
                                code, arrays, begin, end, asked, threads, trace)  # fmt: skip
            part = parts if parts == 1 else atomic_add(sync, claims, 1)


@jit
def weight_part(params, slots, stride, work, plan, hyper, scratch, batch, mine, mine_last, code, arrays,
                begin, end, asked, threads, trace):  # fmt: skip
    """``weight_gradients`` of [begin, end) of its line.

    What other threads wrote, the rows of the batch outside [mine, mine_last), is asked for first, deltas once
    for all parts of a layer: not those of layer ``asked``. Returns the layer that was last.
    """
    lanes, item = lanes_of(work), item_of(work)
    for index in range(get(plan, P_LAYERS)):
        this = layer(plan, index)
        if get(this, L_FROZEN) != 0:
            continue
        inner, w, vectors = get(this, L_FAN_IN), get(this, L_W), whole_vectors(work, get(this, L_FAN_OUT))
        rows = get(this, L_ROWS)
        # rows that start in [begin, end)
        row = min(rows, max(0, (begin + vectors - 1) // vectors))
        last = min(rows, max(0, (end + vectors - 1) // vectors))
        if last > inner + 1 and last > row:  # gain and shift of a norm, slopes of prelu
            vector_update(params, slots, stride, work, this, batch, code, max(0, row - inner - 1),
                          last - inner - 1, layer_constants(scratch, hyper, index, 2),
                          shift(scratch, S_TILE))  # fmt: skip
            last = inner + 1
        if row < last:
            x, delta = shift(work, get(this, L_X)), shift(work, get(this, L_DELTA))
            panels = (vectors - 1) // tile_height(work, 0) + 1
            packs, wide = shift(scratch, get(plan, P_PANEL)), panels >= PANELS
            if threads > 1 and batch <= codes.LONG:
                for r in range(batch):
                    if r < mine or r >= mine_last:
                        fetch(item * (last - row), shift(x, r * get(this, L_LDX) + row))
                        if index != asked:
                            fetch(item * lanes * vectors, shift(delta, r * get(this, L_LDA)))
            packed = wide and index == asked
            asked = index if not wide else asked
            # of long batches a piece at a time, so that tiles find its inputs and deltas in L2
            in_pieces = batch > codes.LONG and panels > 1
            most, tallest = (codes.LONG, codes.SUM_ROWS) if in_pieces else (batch, last - row)
            ldw, ldx, ldd = get(this, L_LDW), get(this, L_LDX), get(this, L_LDA)
            while row < last:
                end_row, start = row + cut(last - row, tallest), 0
                packed, pays = packed and not in_pieces, wide and end_row - row >= FEW
                while start < batch:
                    count = cut(batch - start, most)
                    piece = LAST if start + count == batch else MORE
                    if start == 0:
                        piece = WHOLE if count == batch else FIRST
                    if pays and (in_pieces or not packed):
                        pack_panels(packs, shift(delta, start * ldd), ldd, count, 0, vectors * lanes)
                        packed, asked = True, index
                    dense_update(
                        shift(params, w), shift(slots, w), stride, ldw, shift(x, start * ldx), ldx,
                        shift(delta, start * ldd), ldd, count, inner, get(this, L_FAN_OUT), code, arrays, row,
                        end_row, np.int64(0), vectors * lanes, layer_constants(scratch, hyper, index, 1),
                        layer_constants(scratch, hyper, index, 2), shift(scratch, S_TILE),
                        shift(work, get(plan, P_ZERO)), shift(scratch, S_ONE),
                        shift(scratch, get(plan, P_SUMS) - row * ldw), piece, packs, packed,
                    )  # fmt: skip
                    start += count
                row = end_row
        begin -= vectors * rows
        end -= vectors * rows
        lap(trace, codes.TRACE + codes.PHASES * index + codes.PHASE_UPDATE)
    return asked


@program(python=False)
def worker(params, slots, work, plan, call, hyper, results, order, sync, thread, threads):
    """One thread of the team runs steps [K_FIRST, K_LAST) of an epoch."""
    mode = get(call, K_MODE)
    groups = get(call, K_COLUMNS) if threads > 1 else 1
    group, team, teams = thread % groups, thread // groups, threads // groups
    trains = mode == codes.TRAIN
    learns = trains or mode == codes.COLLECT  # a step of training: drops, and moves running statistics
    backwards = learns or mode == codes.GRADIENTS
    predicts = mode == codes.PREDICT or mode == codes.FORWARD
    changes = trains or mode == codes.APPLY
    norms = get(hyper, codes.H_CLIP_NORM) > 0.0 or get(hyper, codes.H_CLIP_LAYER) > 0.0
    constrains = changes and get(hyper, codes.H_MAX_NORM) > 0.0
    every = max(1, np.int64(get(hyper, codes.H_ACCUMULATE)))  # batches an update
    steps = (get(call, K_SAMPLES) + get(plan, P_BATCH) - 1) // get(plan, P_BATCH)
    scratch = shift(work, get(plan, P_SCRATCH) + thread * get(plan, P_SCRATCH_SIZE))
    put(scratch, S_ONE, 1.0)
    # where the weight tiles go: fused into the update, or, on the second path, stored
    store, place, stride, fate = norms or every > 1, slots, get(plan, P_SIZE), get(plan, P_OPTIMIZER)
    store = store or not trains
    if store:
        fate, stride = codes.STORE, 0
        if trains:
            place = shift(work, get(plan, P_GRADIENT))
    arrays = 1 + get(plan, P_SLOTS) if not store else 2
    top = layer(plan, get(plan, P_LAYERS) - 1)
    outputs, ld = get(plan, P_OUTPUTS), get(top, L_LDA)
    numbers = shift(work, get(plan, P_NUMBERS))
    hits, loss_sum, weight_sum, done = 0, 0.0, 0.0, 0
    if thread == 0 and get(call, K_FIRST) > 0:  # one sum over all windows of an epoch: one order
        loss_sum, weight_sum = get(results, codes.RESULT_LOSS), get(results, codes.RESULT_WEIGHT)
    trace = shift(sync, codes.SYNC + thread * trace_size(get(plan, P_LAYERS)))
    put(trace, codes.T_LAST, ticks() if get(call, codes.K_TRACE) != 0 else 0)
    before = float_mode(1, 0)
    for step in range(get(call, K_FIRST), get(call, K_LAST)):
        part = step % every
        updates = changes and (part == every - 1 or step == steps - 1)
        number = get(call, K_STEP) + step // every + 1
        if updates:
            update_constants(scratch, call, hyper, step // every - get(call, K_FIRST) // every)
            lap(trace, codes.T_CONSTANTS)
        if mode == codes.APPLY:
            norm = stored_update(params, slots, work, plan, scratch, hyper, norms, 1.0, thread, threads, sync)
            done += 1 if isfinite(norm) else 0
            if constrains and isfinite(norm):
                barrier(sync, threads)
                constrain(params, slots, work, plan, hyper, scratch, thread, threads, sync)
            break
        start = step * get(plan, P_BATCH)
        batch = min(get(plan, P_BATCH), get(call, K_SAMPLES) - start)
        # the team's rows, and this thread's part of them for what is not cut into columns
        row, last = batch * team // teams, batch * (team + 1) // teams
        own, own_last = (
            row + (last - row) * group // groups,
            row + (last - row) * (group + 1) // groups,
        )
        put(trace, codes.T_CLAIMED, 0)  # since the barrier nobody claims parts any more
        drops = (number - 1) * every + part + 1 if learns else 0  # counts batches, also of several an update
        z, delta = shift(work, get(top, L_A)), shift(work, get(top, L_DELTA))
        losses, scales = shift(work, get(plan, P_ROWLOSS)), shift(work, get(plan, P_ROWSCALE))
        weight = 0.0 if predicts else weigh(work, plan, call, order, start, batch, own, own_last)
        # some rows pass all layers, then the next; where threads meet within the layers, all rows at once
        most = (
            own_last - own if groups > 1 or get(plan, P_MEETS) != 0 else min(own_last - own, codes.BLOCK_ROWS)
        )
        mine = own
        while True:
            mine_last = mine + cut(own_last - mine, most) if most > 0 else own_last
            if groups == 1:
                row, last = mine, mine_last
            bad = gather(params, work, plan, call, order, start, mine, mine_last)
            if drops != 0 and get(plan, P_DROPOUT) != 0:
                drop_inputs(work, plan, get(call, K_SEED), drops, mine, mine_last)
            lap(trace, codes.T_GATHER)
            if groups > 1:
                barrier(sync, threads)
            forward(params, work, plan, call, 1 if backwards else 0, drops, batch, row, last, mine, mine_last,
                    group, groups, sync, thread, threads, trace)  # fmt: skip
            at = mine * ld
            if predicts:
                code = get(plan, P_LOSS) if mode == codes.PREDICT else -1
                row_out, outs = get(call, K_OUT_ROW), address(work, get(call, K_OUT))
                link_rows(code, mine_last - mine, outputs, numbers, shift(z, at), ld, shift(delta, at),
                          shift(outs, (start + mine) * row_out), row_out)  # fmt: skip
                hits += bad
            else:
                hits += loss_rows(
                    get(plan, P_LOSS), mine_last - mine, outputs, get(plan, P_TARGETS), numbers, shift(z, at),
                    ld, shift(work, get(plan, P_TARGET) + mine * get(plan, P_LDT)), get(plan, P_LDT),
                    shift(delta, at), shift(losses, mine), shift(scales, mine),
                )  # fmt: skip
                lap(trace, codes.T_LOSS)
            if backwards:
                if groups > 1:
                    barrier(sync, threads)
                    lap(trace, codes.T_WAIT)
                backward(params, work, plan, call, scratch, drops, batch, row, last, mine, mine_last, group,
                         groups, sync, thread, threads, trace)  # fmt: skip
            mine = mine_last
            if mine >= own_last:
                break
        if predicts:
            barrier(sync, threads)  # a shorter last batch is cut elsewhere
            done += 1
            continue
        barrier(sync, threads)
        lap(trace, codes.T_WAIT)
        sum_row(batch, losses, shift(scratch, S_TILE))
        loss = np.float64(get(scratch, S_TILE))
        if trains and not isfinite(loss):
            loss_sum = loss
            break
        loss_sum += loss * weight
        weight_sum += weight
        done += 1
        if backwards:
            if store:
                fate = codes.ADD if trains and part > 0 else codes.STORE
            weight_gradients(params, place, stride, work, plan, hyper, scratch, batch, own, own_last, fate,
                             arrays, sync, thread, threads, trace)  # fmt: skip
            if get(plan, P_EMBEDDINGS) != 0 and get(plan, P_LOWEST) == 0:
                embedding_update(params, place, stride, work, plan, batch, fate, store, thread, threads,
                                 layer_constants(scratch, hyper, 0, 1))  # fmt: skip
                lap(trace, codes.T_EMBED)
            if store and updates:
                barrier(sync, threads)
                norm = stored_update(params, slots, work, plan, scratch, hyper, norms, 1.0 / (part + 1),
                                     thread, threads, sync)  # fmt: skip
                if not isfinite(norm):
                    loss_sum, done = norm, done - 1
                    break
                lap(trace, codes.T_CLIP)
            if learns and get(plan, P_MEETS) != 0 and isfinite(loss):
                track_running(params, work, plan, batch, thread, threads)
                lap(trace, codes.T_CONSTANTS)
            if constrains and updates:
                barrier(sync, threads)
                constrain(params, slots, work, plan, hyper, scratch, thread, threads, sync)
                lap(trace, codes.T_CONSTRAIN)
        barrier(sync, threads)
        lap(trace, codes.T_WAIT)
    float_mode(0, before)
    if thread == 0:
        put(results, codes.RESULT_LOSS, loss_sum)
        put(results, codes.RESULT_WEIGHT, weight_sum)
        put(results, codes.RESULT_STEPS, np.float64(done))
        put(results, codes.RESULT_THREADS, np.float64(threads))
    put(results, codes.RESULTS + thread, np.float64(hits))


@intrinsic
def call_worker(typingctx, number, params, slots, work, plan, call, hyper, results, order, sync, thread,
                threads):  # fmt: skip
    """worker(params, ...), by its address: it is compiled apart, not twice in run, and not before it."""

    def codegen(context, builder, sig, args):
        types_of, values = sig.args[1:], args[1:]
        kind = context.call_conv.get_function_type(sig.return_type, types_of)
        function = builder.inttoptr(args[0], kind.as_pointer())
        context.call_conv.call_function(builder, function, sig.return_type, types_of, values)
        return context.get_dummy_value()

    arguments = (params, slots, work, plan, call, hyper, results, order, sync, thread, threads)
    return types.none(number, *arguments), codegen


@program(parallel=True)
def run(params, slots, work, plan, call, hyper, results, order, sync):
    """Run the steps that ``call`` names on K_THREADS threads: the one function that Python calls.

    params, slots, work: arenas of one dtype; plan, call, hyper: see codes.py; results (RESULTS +
    threads,) float64, overwritten; order (N,) int32; sync (SYNC,) int64, scratch of the team.
    """
    threads, number = call[K_THREADS], call[K_WORKER]
    nobody, one = np.int64(0), np.int64(1)  # not literals: those would compile the worker again
    if call[K_MODE] == codes.SHUFFLE:
        shuffle(order, call[K_SEED], call[K_STREAM])
    elif threads <= 1:
        call_worker(number, pointer(params), pointer(slots), pointer(work), pointer(plan), pointer(call),
                    pointer(hyper), pointer(results), pointer(order), pointer(sync), nobody, one)  # fmt: skip
    else:
        for place in range(codes.SYNC):
            sync[place] = 0
        for index in prange(threads):
            thread = np.int64(index)  # prange counts in unsigned numbers
            team = gather_team(pointer(sync), threads)
            if team == 1:
                thread = 0
            if team > 0:
                call_worker(number, pointer(params), pointer(slots), pointer(work), pointer(plan),
                            pointer(call), pointer(hyper), pointer(results), pointer(order), pointer(sync),
                            thread, team)  # fmt: skip


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
    arenas = (floats,) * 3 + (int64, int64, float64, float64, int32, int64)
    pointers = tuple(types.CPointer(kind) for kind in arenas)
    return (*pointers, int64, int64), tuple(kind[::1] for kind in arenas)


@functools.cache
def load(dtype):
    """Compile, or load from the disk cache, what networks of one numpy dtype need: (run, K_WORKER for it).

    Where worker, the longest, must be compiled and can be kept, another process does that meanwhile. It calls
    the functions written as IR by their symbols, so they are there first.
    """
    floats = from_dtype(dtype)
    table = np.empty(len(LEAVES), np.int64)
    of_worker, of_run = _signatures(floats)
    with helped(__name__, dtype) if on_disk(worker, of_worker) is False else nullcontext():
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
