"""What the threads of a block find, put together in shared memory by halves: every sum has one order."""

from .device import SIMULATED, cuda, device

ROW_THREADS = 4 if SIMULATED else 128  # of a block of rows; one of sums has as many
# threads of a block of columns, side by side and one under the other, each over some of the rows
PATCH_COLUMNS, PATCH_ROWS = (2, 2) if SIMULATED else (32, 8)
PATCH = PATCH_COLUMNS * PATCH_ROWS


def lanes(outputs):
    """Threads that share a row: a power of two, four outputs each, at most a block."""
    count = 1
    while count * 4 < outputs and count < ROW_THREADS:
        count *= 2
    return count


lanes_of_row = device(lanes)


@device
def meet():
    """Wait for the block's other threads; what they have written is there."""
    cuda.syncthreads()


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
def fold_column(shared, tid, value):
    """The sum of a column's PATCH_ROWS values, which lie PATCH_COLUMNS apart, in each of its threads."""
    shared[tid] = value
    cuda.syncthreads()
    step = PATCH_ROWS // 2
    while step > 0:
        if tid // PATCH_COLUMNS < step:
            shared[tid] = shared[tid] + shared[tid + step * PATCH_COLUMNS]
        cuda.syncthreads()
        step //= 2
    total = shared[tid % PATCH_COLUMNS]
    cuda.syncthreads()
    return total
