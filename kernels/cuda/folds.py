"""What the threads of a block find, put together in shared memory by halves: every sum has one order."""

from .device import SIMULATED, cuda, device

THREADS = 4 if SIMULATED else 128  # of a block of rows; one of sums has as many
ACROSS, DOWN = (2, 2) if SIMULATED else (32, 8)  # threads of a block of columns, each over some of the rows
PATCH = ACROSS * DOWN


def lanes(outputs):
    """Threads that share a row: a power of two, four outputs each, at most a block."""
    count = 1
    while count * 4 < outputs and count < THREADS:
        count *= 2
    return count


lanes_of_row = device(lanes)


@device
def fold_sum(shared, tid, group, value):
    """The group's values added by halves; all threads of the block call it."""
    shared[tid] = value
    cuda.syncthreads()
    step = group // 2
    while step > 0:
        if tid % group < step:
            shared[tid] = shared[tid] + shared[tid + step]
        cuda.syncthreads()
        step //= 2
    total = shared[tid - tid % group]
    cuda.syncthreads()
    return total


@device
def fold_largest(shared, tid, group, value):
    """The group's largest value, as ``fold_sum``."""
    shared[tid] = value
    cuda.syncthreads()
    step = group // 2
    while step > 0:
        if tid % group < step and shared[tid + step] > shared[tid]:
            shared[tid] = shared[tid + step]
        cuda.syncthreads()
        step //= 2
    top = shared[tid - tid % group]
    cuda.syncthreads()
    return top


@device
def fold_down(shared, tid, value):
    """The sum of a column's DOWN values, which lie ACROSS apart, in each of its threads."""
    shared[tid] = value
    cuda.syncthreads()
    step = DOWN // 2
    while step > 0:
        if tid // ACROSS < step:
            shared[tid] = shared[tid] + shared[tid + step * ACROSS]
        cuda.syncthreads()
        step //= 2
    total = shared[tid % ACROSS]
    cuda.syncthreads()
    return total
