"""Many networks in one call: one thread trains each, and takes the next one when its turn is over.

Every network runs by the same worker as alone, on one thread and with all that it owns: parameters, slots,
tables. What only a step needs lies in the thread's scratch, whatever network that runs. So a network ends
with the bits of one that was trained alone, whoever trained it, and in whatever order.
"""

import functools
from typing import NamedTuple

import numpy as np
from numba import carray, float64, from_dtype, int32, int64, prange

from .. import codes
from ..jit import jit, program
from ..random import shuffle
from . import program as one
from .plan import call_of, header_of, job_of, pass_of
from .records import Net
from .simd import address, get, pointer, put, shift
from .team import atomic_add, atomic_claim, atomic_put, spread, ticks

WIDTH = codes.MANY + 2 * codes.PASS  # of a network's row: training, then validation


class Desk(NamedTuple):
    """What a thread works with: its scratch, an order of rows, results and a place to meet nobody."""

    work: object
    order: object
    results: object
    sync: object


@jit
def enter(this, desk):
    """Make the thread's scratch the work arena of a pass, as a new one would be."""
    work, numbers = desk.work, address(desk.results, this.numbers)
    for i in range(this.work):
        put(work, i, 0.0)
    place = header_of(address(desk.sync, this.plan)).numbers
    for i in range(this.count):
        put(work, place + i, get(numbers, i))


@jit
def order_rows(this, desk, seed, stream, shuffled):
    """The order in which a pass reads its rows, into the thread's."""
    call = address(desk.sync, this.call)
    count = call_of(call).samples
    put(call, codes.K_ORDER, np.int64(shuffled != 0 or this.rows != 0))
    if shuffled != 0:
        shuffle(carray(desk.order, count), seed, stream)
    if this.rows != 0:
        rows = address(desk.order, this.rows)
        for i in range(count):
            at = np.int64(get(desk.order, i)) if shuffled != 0 else i
            put(desk.order, i, get(rows, at))


@jit
def net_at(job, this, desk):
    """Pointers to a network's own arenas and tables, and to the thread's."""
    ints = desk.sync
    return Net(address(desk.work, this.params), address(desk.work, job.slots), desk.work,
               address(ints, this.plan), address(ints, this.call), address(desk.results, job.hyper),
               desk.results, desk.order)  # fmt: skip


@jit
def run_steps(number, net, desk, first, last):
    """Steps [first, last) of a pass; returns how many were done."""
    nobody, one_thread = np.int64(0), np.int64(1)  # not literals: those would compile the worker again
    put(net.call, codes.K_FIRST, first)
    put(net.call, codes.K_LAST, last)
    one.call_worker(number, net, desk.sync, nobody, one_thread)
    return np.int64(get(desk.results, codes.RESULT_STEPS))


@jit
def train_steps(number, job, this, desk, epoch, step):
    """The next chunk of an epoch: (steps done, whether a loss was not finite); sums go to its record."""
    net, results = net_at(job, this, desk), desk.results
    record = shift(address(results, job.record), epoch * codes.RECORDS)
    updates = (this.steps + job.every - 1) // job.every
    before = epoch * updates + step // job.every
    put(net.call, codes.K_STEP, job.number + epoch * updates)
    put(net.call, codes.K_CONSTANTS, job.constants + 8 * codes.CONSTANTS * before)
    if step > 0:
        put(results, codes.RESULT_LOSS, get(record, codes.RECORD_LOSS))
        put(results, codes.RESULT_WEIGHT, get(record, codes.RECORD_WEIGHT))
    last = min(step + job.chunk, this.steps)
    done = run_steps(number, net, desk, step, last)
    put(record, codes.RECORD_LOSS, get(results, codes.RESULT_LOSS))
    put(record, codes.RECORD_WEIGHT, get(results, codes.RESULT_WEIGHT))
    put(record, codes.RECORD_LOST, get(results, codes.RESULT_LOST))
    put(record, codes.RECORD_HITS, get(record, codes.RECORD_HITS) + get(results, codes.RESULTS))
    return step + done, step + done < last


@jit
def validate(number, job, this, desk, epoch):
    """A pass over the validation rows after an epoch, into its record."""
    enter(this, desk)
    order_rows(this, desk, np.int64(0), np.int64(0), np.int64(0))
    run_steps(number, net_at(job, this, desk), desk, np.int64(0), this.steps)
    record = shift(address(desk.results, job.record), epoch * codes.RECORDS)
    put(record, codes.RECORD_VAL_LOSS, get(desk.results, codes.RESULT_LOSS))
    put(record, codes.RECORD_VAL_WEIGHT, get(desk.results, codes.RESULT_WEIGHT))
    put(record, codes.RECORD_VAL_HITS, get(desk.results, codes.RESULTS))


@jit
def keep(job, this, desk, epoch):
    """The parameters after an epoch, where Python wants them all."""
    if job.snapshots != 0:
        size = header_of(address(desk.sync, this.plan)).size
        params = address(desk.work, this.params)
        kept = shift(address(desk.work, job.snapshots), epoch * size)
        for i in range(size):
            put(kept, i, get(params, i))


@jit
def visit(number, row, desk, until):
    """Train one network until the clock says so or its epochs are done; returns its new state."""
    job = job_of(row)
    training = pass_of(shift(row, codes.MANY))
    validation = pass_of(shift(row, codes.MANY + codes.PASS))
    epoch, step, fresh = job.epoch, job.step, True
    for place in range(codes.SYNC):
        put(desk.sync, place, 0)
    while epoch < job.epochs:
        began = ticks()
        if began >= until:
            return codes.WAITING
        if fresh:
            enter(training, desk)
        if fresh or step == 0:
            order_rows(training, desk, job.seed, job.stream + epoch, job.shuffled)
        step, stopped = train_steps(number, job, training, desk, epoch, step)
        fresh = False
        if not stopped and step == training.steps and validation.steps > 0:
            validate(number, job, validation, desk, epoch)
            fresh = True
        place = epoch * codes.RECORDS + codes.RECORD_TICKS
        spent = shift(address(desk.results, job.record), place)
        put(spent, np.int64(0), get(spent, np.int64(0)) + np.float64(ticks() - began))
        if not stopped and step == training.steps:
            keep(job, training, desk, epoch)
            epoch, step = epoch + 1, np.int64(0)
        put(row, codes.M_EPOCH, epoch)
        put(row, codes.M_STEP, step)
        if stopped:
            return codes.STOPPED
    return codes.DONE


@jit
def take_turns(jobs, call, desk, until):
    """Train whatever network waits, one turn each, until the time is over or none waits."""
    count, missed = get(call, codes.B_NETWORKS), 0
    while missed < count:
        now = ticks()
        if now >= until:
            break
        row = shift(jobs, WIDTH * (atomic_add(call, codes.B_NEXT, 1) % count))
        if get(row, codes.M_STATE) != codes.WAITING or atomic_claim(row, codes.M_STATE, codes.TAKEN) != 0:
            missed += 1
            continue
        missed = 0
        state = visit(get(call, codes.B_WORKER), row, desk, min(until, now + get(row, codes.M_TURN)))
        atomic_put(row, codes.M_STATE, state)


@program(parallel=True)
def run_many(call, jobs, work, order, results, sync):
    """Train the networks of a table for a while, each on one thread.

    call (BATCHES,) int64; jobs (networks, WIDTH) int64, see M and V of tables.py; and each thread's: work
    (threads, floats), order (threads, rows) int32, results (threads, RESULTS + 1) float64, sync (threads
    + 1, SYNC + a trace) int64, the last row for all.
    """
    began = ticks()
    until = began + call[codes.B_BUDGET]
    sync[-1, codes.Y_PROCESSORS] = 0
    for index in prange(call[codes.B_THREADS]):
        thread = np.int64(index)  # prange counts in unsigned numbers
        spread(shift(pointer(sync), (len(sync) - 1) * sync.shape[1]))
        desk = Desk(shift(pointer(work), thread * work.shape[1]),
                    shift(pointer(order), thread * order.shape[1]),
                    shift(pointer(results), thread * results.shape[1]),
                    shift(pointer(sync), thread * sync.shape[1]))  # fmt: skip
        take_turns(pointer(jobs), pointer(call), desk, until)
    call[codes.B_SPENT] = ticks() - began


@functools.cache
def load(dtype):
    """Compile, or load from the disk, what many networks of a dtype need: (run_many, B_WORKER for it)."""
    _, worker = one.load(dtype)
    floats = from_dtype(dtype)
    run_many.compile((int64[::1], int64[:, ::1], floats[:, ::1], int32[:, ::1], float64[:, ::1],
                      int64[:, ::1]))  # fmt: skip
    return run_many, worker
