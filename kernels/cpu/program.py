"""The compiled program: every network, loss, optimizer and mode, over flat arenas and three tables.

A step, as one thread of the team sees it:

    its rows:      gather -> forward through all layers -> loss and delta -> delta back through all
    barrier        (the loss of the whole batch is known: stop before anything changes if not finite)
    its weights:   tiles of all layers at once: gradient tile -> update in the epilogue
    barrier

Two barriers a step, because rows do not meet before the update. Wide layers on many threads would
read all weights in every core: then the team is also split over columns (K_COLUMNS groups), with a
barrier after each layer. Every sum has one order, so no split changes a bit.
"""

import functools
from math import isfinite, sqrt

import numpy as np
from numba import float64, from_dtype, int32, int64, prange

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
    L_FROZEN,
    L_IN,
    L_LDA,
    L_LDW,
    L_LDX,
    L_OUT,
    L_W,
    L_X,
    P_BATCH,
    P_GRADIENT,
    P_INPUTS,
    P_LAYERS,
    P_LDT,
    P_LDX,
    P_LOSS,
    P_LOWEST,
    P_NUMBERS,
    P_OPTIMIZER,
    P_OUTPUTS,
    P_PANEL,
    P_PARTIALS,
    P_ROWLOSS,
    P_ROWSCALE,
    P_SCRATCH,
    P_SCRATCH_SIZE,
    P_SIZE,
    P_SLOTS,
    P_TARGET,
    P_TARGETS,
    P_X,
    P_ZERO,
    S_CONSTANTS,
    S_ONE,
    S_TILE,
)  # fmt: skip
from ..jit import jit, program
from ..random import shuffle
from .data import convert_row, fetch
from .dense import dense_backward, dense_forward, dense_update, scale, update
from .losses import link_rows, loss_rows, square_sum_row, sum_row
from .measure import multiply_adds
from .simd import LEAVES, address, bind_leaves, emit_leaves, get, item_of, lanes_of, pointer, put, shift
from .team import barrier, float_mode, gather_team, lap, ticks

trace_size = jit(codes.trace_size)

AHEAD = 4096  # bytes of shuffled samples that are on their way while one is read


@jit
def layer(plan, index):
    """The columns of one layer."""
    return shift(plan, codes.HEADER + index * codes.LAYER_COLUMNS)


@jit
def whole_vectors(like, count):
    """Vectors that hold ``count`` floats."""
    lanes = lanes_of(like)
    return (count + lanes - 1) // lanes


@jit
def gather(work, plan, call, order, start, row, last):
    """Rows [row, last) of the batch that starts at sample ``start``: inputs and targets.

    Shuffled rows lie anywhere: those to come are asked for AHEAD bytes before they are read.
    Returns in how many rows an input is not finite.
    """
    bad = 0
    shuffled = get(call, K_ORDER) != 0
    size = get(plan, P_INPUTS) * abs(get(call, K_X_COL))
    ahead = max(1, min(16, AHEAD // (size + 1)))
    fetched = row
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
        bad += convert_row(get(call, K_X_TYPE), get(plan, P_INPUTS),
                           get(call, K_X) + sample * get(call, K_X_ROW), get(call, K_X_COL),
                           shift(work, get(plan, P_X) + r * get(plan, P_LDX)))  # fmt: skip
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
def forward(params, work, plan, keep, row, last, group, groups, sync, threads, trace):
    """All layers, rows [row, last), this group's share of the columns."""
    lanes = lanes_of(work)
    for index in range(get(plan, P_LAYERS)):
        this = layer(plan, index)
        vectors = whole_vectors(work, get(this, L_OUT))
        dense_forward(
            shift(work, get(this, L_A)), get(this, L_LDA), shift(work, get(this, L_DELTA)), keep,
            shift(work, get(this, L_X)), get(this, L_LDX), shift(params, get(this, L_W)),
            get(this, L_LDW), get(this, L_IN), get(this, L_ACTIVATION), row, last,
            vectors * group // groups * lanes, vectors * (group + 1) // groups * lanes,
        )  # fmt: skip
        lap(trace, codes.T_LAYERS + 3 * index + codes.T_FORWARD)
        if groups > 1:
            barrier(sync, threads)
            lap(trace, codes.T_WAIT)


@jit
def backward(params, work, plan, scratch, row, last, group, groups, sync, threads, trace):
    """The deltas of the hidden layers down to the lowest that trains, rows [row, last), this group's
    share of the columns."""
    lanes = lanes_of(work)
    for index in range(get(plan, P_LAYERS) - 1, get(plan, P_LOWEST), -1):
        this, below = layer(plan, index), layer(plan, index - 1)
        inner = get(this, L_IN)
        vectors = whole_vectors(work, inner)
        dense_backward(
            shift(work, get(below, L_DELTA)), get(below, L_LDA), shift(work, get(below, L_A)),
            shift(work, get(this, L_DELTA)), get(this, L_LDA), shift(params, get(this, L_W)),
            get(this, L_LDW), get(this, L_OUT), inner, get(below, L_ACTIVATION), row, last,
            vectors * group // groups * lanes, vectors * (group + 1) // groups * lanes,
            shift(scratch, get(plan, P_PANEL)), shift(scratch, S_TILE), shift(work, get(plan, P_ZERO)),
        )  # fmt: skip
        lap(trace, codes.T_LAYERS + 3 * index + codes.T_BACKWARD)
        if groups > 1:
            barrier(sync, threads)
            lap(trace, codes.T_WAIT)


@jit
def weight_gradients(params, slots, stride, work, plan, scratch, batch, mine, mine_last, code, arrays,
                     share, threads, trace):  # fmt: skip
    """This thread's share of the weight tiles of all layers that train: gradient, and what ``code``
    does with it.

    These layers' rows, each as long as its layer is wide, form one line that is cut into equal parts.
    What other threads wrote, the rows of the batch outside [mine, mine_last), is asked for first.
    """
    lanes, item = lanes_of(work), item_of(work)
    total = 0
    for index in range(get(plan, P_LAYERS)):
        this = layer(plan, index)
        if get(this, L_FROZEN) == 0:
            total += (get(this, L_IN) + 1) * whole_vectors(work, get(this, L_OUT))
    begin, end = total * share // threads, total * (share + 1) // threads
    for index in range(get(plan, P_LAYERS)):
        this = layer(plan, index)
        if get(this, L_FROZEN) != 0:
            continue
        inner, w, vectors = get(this, L_IN), get(this, L_W), whole_vectors(work, get(this, L_OUT))
        # rows that start in [begin, end)
        row = min(inner + 1, max(0, (begin + vectors - 1) // vectors))
        last = min(inner + 1, max(0, (end + vectors - 1) // vectors))
        if row < last:
            x, delta = shift(work, get(this, L_X)), shift(work, get(this, L_DELTA))
            if threads > 1:
                for r in range(batch):
                    if r < mine or r >= mine_last:
                        fetch(item * (last - row), shift(x, r * get(this, L_LDX) + row))
                        fetch(item * lanes * vectors, shift(delta, r * get(this, L_LDA)))
            dense_update(
                shift(params, w), shift(slots, w), stride, get(this, L_LDW),
                x, get(this, L_LDX), delta, get(this, L_LDA), batch, inner, get(this, L_OUT),
                code, arrays, row, last, np.int64(0), vectors * lanes,
                shift(scratch, S_CONSTANTS), shift(scratch, S_TILE), shift(work, get(plan, P_ZERO)),
                shift(scratch, S_ONE),
            )  # fmt: skip
        begin -= vectors * (inner + 1)
        end -= vectors * (inner + 1)
        lap(trace, codes.T_LAYERS + 3 * index + codes.T_UPDATE)


@jit
def square_norm(work, plan, share, threads, sync):
    """Sum of squares of the gradient arena: blocks over the threads, then one order for all."""
    size, gradient = get(plan, P_SIZE), shift(work, get(plan, P_GRADIENT))
    partials = shift(work, get(plan, P_PARTIALS))
    blocks = (size + codes.BLOCK - 1) // codes.BLOCK
    for b in range(blocks * share // threads, blocks * (share + 1) // threads):
        at = b * codes.BLOCK
        square_sum_row(min(codes.BLOCK, size - at), shift(gradient, at), shift(partials, b))
    barrier(sync, threads)
    total = 0.0
    for b in range(blocks):
        total += get(partials, b)
    return total


@jit
def apply(params, slots, work, plan, scratch, factor, share, threads):
    """The update from factor * the gradient arena: each layer that trains is one long row, cut over
    the threads."""
    lanes, size = lanes_of(work), get(plan, P_SIZE)
    for index in range(get(plan, P_LAYERS)):
        this = layer(plan, index)
        if get(this, L_FROZEN) != 0:
            continue
        vectors = (get(this, L_IN) + 1) * get(this, L_LDW) // lanes
        first, last = vectors * share // threads, vectors * (share + 1) // threads
        at = get(this, L_W) + first * lanes
        gradient = shift(work, get(plan, P_GRADIENT) + at)
        scale(last - first, gradient, factor)
        update(get(plan, P_OPTIMIZER), 1, last - first, gradient, 0, shift(params, at), shift(slots, at),
               size, 0, shift(scratch, S_CONSTANTS))  # fmt: skip


@jit
def update_constants(scratch, plan, hyper, step):
    """What the update's vectors need at step number ``step`` (from 1)."""
    c = shift(scratch, S_CONSTANTS)
    decoupled = get(hyper, codes.H_DECOUPLED) != 0.0
    lr, decay = get(hyper, codes.H_LR), get(hyper, codes.H_WEIGHT_DECAY)
    put(c, codes.C_LR, lr)
    put(c, codes.C_L2, 0.0 if decoupled else decay)
    put(c, codes.C_DECAY, 1.0 - lr * decay if decoupled else 1.0)
    optimizer = get(plan, P_OPTIMIZER)
    if optimizer == codes.ADAM or optimizer == codes.ADAM_DECAY:
        b1, b2 = get(hyper, codes.H_BETA1), get(hyper, codes.H_BETA2)
        put(c, codes.C_BETA1, 1.0 - b1)
        put(c, codes.C_BETA2, 1.0 - b2)
        put(c, codes.C_LR, lr / (1.0 - b1**step))
        put(c, codes.C_ROOT, 1.0 / sqrt(1.0 - b2**step))
        put(c, codes.C_EPS, max(get(hyper, codes.H_EPS), 1e-37))  # never 0 / 0, in padding above all
    elif optimizer == codes.SGD_MOMENTUM:
        momentum, nesterov = get(hyper, codes.H_MOMENTUM), get(hyper, codes.H_NESTEROV)
        put(c, codes.C_MOMENTUM, momentum)
        put(c, codes.C_FRESH, 1.0 if step == 1 else 1.0 - get(hyper, codes.H_DAMPENING))
        put(c, codes.C_GRADIENT, nesterov)
        put(c, codes.C_BUFFER, momentum if nesterov != 0.0 else 1.0)


@jit
def clipped_update(params, slots, work, plan, scratch, hyper, clip, number, share, threads, sync):
    """Update ``number`` from the whole gradient arena, scaled to norm ``clip`` where that is above 0
    and exceeded. Returns the norm (0 where nobody asked); changes nothing where it is not finite."""
    factor, norm = 1.0, 0.0
    if clip > 0.0:
        norm = sqrt(square_norm(work, plan, share, threads, sync))
        if not isfinite(norm):
            return norm
        factor = min(1.0, clip / (norm + 1e-6))
    update_constants(scratch, plan, hyper, number)
    apply(params, slots, work, plan, scratch, factor, share, threads)
    return norm


@jit
def worker(params, slots, work, plan, call, hyper, results, order, sync, thread, threads):
    """One thread of the team runs steps [K_FIRST, K_LAST) of an epoch."""
    mode = get(call, K_MODE)
    groups = get(call, K_COLUMNS) if threads > 1 else 1
    group, team, teams = thread % groups, thread // groups, threads // groups
    trains = mode == codes.TRAIN
    backwards = trains or mode == codes.GRADIENTS
    clip = get(hyper, codes.H_CLIP_NORM) if trains or mode == codes.APPLY else 0.0
    scratch = shift(work, get(plan, P_SCRATCH) + thread * get(plan, P_SCRATCH_SIZE))
    put(scratch, S_ONE, 1.0)
    # where the weight tiles go: fused into the update, or, on the second path, stored
    store, place, stride, fate = clip > 0.0 or not trains, slots, get(plan, P_SIZE), get(plan, P_OPTIMIZER)
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
        loss_sum, weight_sum = get(results, codes.R_LOSS), get(results, codes.R_WEIGHT)
    trace = shift(sync, codes.SYNC + thread * trace_size(get(plan, P_LAYERS)))
    put(trace, codes.T_LAST, ticks() if get(call, codes.K_TRACE) != 0 else 0)
    before = float_mode(1, 0)
    for step in range(get(call, K_FIRST), get(call, K_LAST)):
        if mode == codes.APPLY:
            norm = clipped_update(params, slots, work, plan, scratch, hyper, clip, get(call, K_STEP) + 1,
                                  thread, threads, sync)  # fmt: skip
            done += 1 if isfinite(norm) else 0
            break
        start = step * get(plan, P_BATCH)
        batch = min(get(plan, P_BATCH), get(call, K_SAMPLES) - start)
        # the team's rows, and this thread's part of them for what is not cut into columns
        row, last = batch * team // teams, batch * (team + 1) // teams
        own, own_last = (
            row + (last - row) * group // groups,
            row + (last - row) * (group + 1) // groups,
        )
        bad = gather(work, plan, call, order, start, own, own_last)
        lap(trace, codes.T_GATHER)
        if groups > 1:
            barrier(sync, threads)
        forward(params, work, plan, 1 if backwards else 0, row, last, group, groups, sync, threads, trace)
        z, delta = shift(work, get(top, L_A)), shift(work, get(top, L_DELTA))
        if mode == codes.PREDICT or mode == codes.FORWARD:
            code = get(plan, P_LOSS) if mode == codes.PREDICT else -1
            row_out = get(call, K_OUT_ROW)
            link_rows(code, own_last - own, outputs, numbers, shift(z, own * ld), ld, shift(delta, own * ld),
                      shift(address(work, get(call, K_OUT)), (start + own) * row_out), row_out)  # fmt: skip
            barrier(sync, threads)  # a shorter last batch is cut elsewhere
            hits += bad
            done += 1
            continue
        weight = weigh(work, plan, call, order, start, batch, own, own_last)
        losses, scales = shift(work, get(plan, P_ROWLOSS)), shift(work, get(plan, P_ROWSCALE))
        hits += loss_rows(
            get(plan, P_LOSS), own_last - own, outputs, get(plan, P_TARGETS), numbers, shift(z, own * ld), ld,
            shift(work, get(plan, P_TARGET) + own * get(plan, P_LDT)), get(plan, P_LDT),
            shift(delta, own * ld), shift(losses, own), shift(scales, own),
        )  # fmt: skip
        lap(trace, codes.T_LOSS)
        if backwards:
            if groups > 1:
                barrier(sync, threads)
                lap(trace, codes.T_WAIT)
            backward(params, work, plan, scratch, row, last, group, groups, sync, threads, trace)
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
            number = get(call, K_STEP) + done
            if not store:
                update_constants(scratch, plan, hyper, number)
                lap(trace, codes.T_CONSTANTS)
            weight_gradients(params, place, stride, work, plan, scratch, batch, row, last, fate, arrays,
                             thread, threads, trace)  # fmt: skip
            if clip > 0.0:
                barrier(sync, threads)
                norm = clipped_update(params, slots, work, plan, scratch, hyper, clip, number, thread,
                                      threads, sync)  # fmt: skip
                if not isfinite(norm):
                    loss_sum, done = norm, done - 1
                    break
                lap(trace, codes.T_CLIP)
        barrier(sync, threads)
        lap(trace, codes.T_WAIT)
    float_mode(0, before)
    if thread == 0:
        put(results, codes.R_LOSS, loss_sum)
        put(results, codes.R_WEIGHT, weight_sum)
        put(results, codes.R_STEPS, np.float64(done))
        put(results, codes.R_THREADS, np.float64(threads))
    put(results, codes.RESULTS + thread, np.float64(hits))


@program(parallel=True)
def run(params, slots, work, plan, call, hyper, results, order, sync):
    """Run the steps that ``call`` names on K_THREADS threads: the one function that Python calls.

    params, slots, work: arenas of one dtype; plan, call, hyper: see codes.py; results (RESULTS +
    threads,) float64, overwritten; order (N,) int32; sync (SYNC,) int64, scratch of the team.
    """
    threads = call[K_THREADS]
    nobody, one = np.int64(0), np.int64(1)  # not literals: those would compile the worker again
    if call[K_MODE] == codes.SHUFFLE:
        shuffle(order, call[K_SEED], call[K_STREAM])
    elif threads <= 1:
        worker(pointer(params), pointer(slots), pointer(work), pointer(plan), pointer(call),
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
                worker(pointer(params), pointer(slots), pointer(work), pointer(plan), pointer(call),
                       pointer(hyper), pointer(results), pointer(order), pointer(sync), thread,
                       team)  # fmt: skip


@program(parallel=False)
def leaves(table, like):
    """The addresses of all functions written as IR, for ``like``'s dtype, into table (int64)."""
    emit_leaves(table, like)


@program(parallel=False)
def peak(passes, numbers):
    """measure.CHAINS * passes vectors of multiply-adds; returns the lanes of a vector."""
    multiply_adds(passes, pointer(numbers))
    return lanes_of(pointer(numbers))


@functools.cache
def load(dtype):
    """Compile, or load from the disk cache, what networks of one numpy dtype need; returns ``run``.

    The functions written as IR first: run is linked against their names.
    """
    floats = from_dtype(dtype)
    table = np.empty(len(LEAVES), np.int64)
    leaves(table, np.empty(0, dtype))
    bind_leaves(table, floats)
    tables, numbers = int64[::1], float64[::1]
    run.compile((floats[::1],) * 3 + (tables, tables, numbers, numbers, int32[::1], tables))
    return run
