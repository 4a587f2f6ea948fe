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
from .losses import broken_row, sum_row
from .measure import multiply_adds
from .plan import (
    call_of,
    header_of,
    layer_at,
    share_of,
)
from .records import (
    Batch,
    Crew,
    Net,
    Share,
    Slice,
    Task,
    Update,
)
from .rows import pass_rows
from .simd import (
    LEAVES,
    bind_leaves,
    emit_leaves,
    get,
    lanes_of,
    pointer,
    put,
    shift,
)
from .team import any_broken, barrier, float_mode, gather_team, lap, note_overflow, ticks
from .updates import constrain, stored_update, update_constants
from .weights import after_update, change_weights

trace_size = jit(codes.trace_size)


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
