"""The second half of an update: gradients that lie in memory, layers' constants, what constrains the weights.

``dense.update`` is the formula over vectors; here is what it is told, once an update, and the path that keeps
gradients: norms and clipping, then the update of long rows. Then max_norm and the average of the weights.
"""

from math import isfinite, sqrt

from .. import codes
from ..codes import (
    E_CATEGORIES,
    E_LD,
    E_TABLE,
    K_CONSTANTS,
    L_FAN_IN,
    L_FAN_OUT,
    L_FROZEN,
    L_LDW,
    L_ROWS,
    L_W,
    P_EMBEDDINGS,
    P_GRADIENT,
    P_LAYERS,
    P_OPTIMIZER,
    P_PARTIALS,
    P_SIZE,
    P_SLOTS,
    S_CONSTANTS,
)  # fmt: skip
from ..jit import jit
from .dense import average, layer, limit_columns, scale, share_of, update, whole_vectors
from .embeddings import embedding
from .losses import square_sum_row
from .simd import address, get, lanes_of, put, shift
from .team import barrier


@jit
def parameter_groups(plan):
    """How many there are: the layers, then the tables of embeddings."""
    return get(plan, P_LAYERS) + get(plan, P_EMBEDDINGS)


@jit
def parameter_group(plan, index):
    """(first place, size, whether it trains) of group ``index`` in params."""
    layers = get(plan, P_LAYERS)
    if index < layers:
        this = layer(plan, index)
        return get(this, L_W), get(this, L_ROWS) * get(this, L_LDW), get(this, L_FROZEN) == 0
    this = embedding(plan, index - layers)
    size = get(this, E_CATEGORIES) * get(this, E_LD)
    return get(this, E_TABLE), size, get(layer(plan, 0), L_FROZEN) == 0


@jit
def blocks_of(size):
    """Blocks of a group's gradient whose squares are summed as one."""
    return (size + codes.BLOCK - 1) // codes.BLOCK


@jit
def square_sums(work, plan, share, threads):
    """Sums of squares of the gradient arena, block by block: this thread's share."""
    partials, total = shift(work, get(plan, P_PARTIALS)), 0
    for index in range(parameter_groups(plan)):
        total += blocks_of(parameter_group(plan, index)[1])
    begin, end = share_of(total, share, threads)
    done = 0
    for index in range(parameter_groups(plan)):
        start, size, _ = parameter_group(plan, index)
        gradient = shift(work, get(plan, P_GRADIENT) + start)
        for b in range(max(begin, done), min(end, done + blocks_of(size))):
            at = (b - done) * codes.BLOCK
            square_sum_row(min(codes.BLOCK, size - at), shift(gradient, at), shift(partials, b))
        done += blocks_of(size)


@jit
def square_norm(work, plan, only):
    """Sum of squares of group ``only``'s gradient, or, for -1, of all: one order."""
    partials, total, done = shift(work, get(plan, P_PARTIALS)), 0.0, 0
    for index in range(parameter_groups(plan)):
        blocks = blocks_of(parameter_group(plan, index)[1])
        if only < 0 or index == only:
            for b in range(done, done + blocks):
                total += get(partials, b)
        done += blocks
    return total


@jit
def apply_block(params, slots, work, plan, gradient, factor, at, end, constants):
    """The update of parameters [at, end) from factor * their gradient: one long row."""
    if at < end:
        count = (end - at) // lanes_of(work)
        scale(count, shift(gradient, at), factor)
        update(get(plan, P_OPTIMIZER), 1, count, shift(gradient, at), 0, shift(params, at), shift(slots, at),
               get(plan, P_SIZE), 0, constants)  # fmt: skip


@jit
def apply(params, slots, work, plan, hyper, scratch, factor, share, threads):
    """The update from factor * the gradient arena: each group that trains is one long row, cut over
    the threads.

    Where layers are clipped, factor * a group's gradient is first scaled to H_CLIP_LAYER.
    """
    lanes, most = lanes_of(work), get(hyper, codes.H_CLIP_LAYER)
    gradient = shift(work, get(plan, P_GRADIENT))
    for index in range(parameter_groups(plan)):
        start, size, trains = parameter_group(plan, index)
        if not trains:
            continue
        first, last = share_of(size // lanes, share, threads)
        first, last = start + first * lanes, start + last * lanes
        own = factor
        if most > 0.0:
            own *= min(1.0, most / (factor * sqrt(square_norm(work, plan, index)) + 1e-6))
        owner, bare = 0, last  # the layer that it belongs to; where biases and what follows them begin
        if index < get(plan, P_LAYERS):
            owner, bare = index, start + get(layer(plan, index), L_FAN_IN) * get(layer(plan, index), L_LDW)
        apply_block(params, slots, work, plan, gradient, own, first, min(last, bare),
                    layer_constants(scratch, hyper, owner, 1))  # fmt: skip
        apply_block(params, slots, work, plan, gradient, own, max(first, bare), last,
                    layer_constants(scratch, hyper, owner, 2))  # fmt: skip


@jit
def constrain(params, slots, work, plan, hyper, scratch, share, threads, sync):
    """Columns of W no longer than H_MAX_NORM; then the average of the weights, if one is kept."""
    lanes, size = lanes_of(work), get(plan, P_SIZE)
    for index in range(get(plan, P_LAYERS)):
        this = layer(plan, index)
        if get(this, L_FROZEN) != 0:
            continue
        vectors = whole_vectors(work, get(this, L_FAN_OUT))
        begin, end = vectors * share // threads, vectors * (share + 1) // threads
        limit_columns(get(this, L_FAN_IN), end - begin, shift(params, get(this, L_W) + begin * lanes),
                      get(this, L_LDW), get(hyper, codes.H_MAX_NORM))  # fmt: skip
    own = get(scratch, S_CONSTANTS + codes.C_AVERAGE)
    if own > 0.0:
        barrier(sync, threads)
        first, last = size // lanes * share // threads, size // lanes * (share + 1) // threads
        mean = shift(slots, (get(plan, P_SLOTS) - 1) * size + first * lanes)
        average(last - first, mean, shift(params, first * lanes), own)


@jit
def layer_constants(scratch, hyper, index, block):
    """The update's constants for a layer's weights (block 1) or what is behind them (2), from those of
    the step. Embeddings have those of layer 0's weights."""
    base = shift(scratch, S_CONSTANTS)
    if get(hyper, codes.H_PER_LAYER) == 0.0:
        return base
    c, factor = shift(base, block * codes.CONSTANTS), get(hyper, codes.HYPER + index)
    for k in range(codes.CONSTANTS):
        put(c, k, get(base, k))
    put(c, codes.C_LR, factor * get(base, codes.C_LR))
    put(c, codes.C_DECAY, factor * get(base, codes.C_DECAY))
    if block == 2 and get(hyper, codes.H_BARE_BIAS) != 0.0:
        put(c, codes.C_L1, 0.0)
        put(c, codes.C_L2, 0.0)
        put(c, codes.C_DECAY, 0.0)
    return c


@jit
def update_constants(scratch, call, hyper, update):
    """Into the scratch: the constants of the window's ``update`` (from 0), which the optimizer has made."""
    c, given = shift(scratch, S_CONSTANTS), address(hyper, get(call, K_CONSTANTS))
    for k in range(codes.CONSTANTS):
        put(c, k, get(given, update * codes.CONSTANTS + k))


@jit
def stored_update(params, slots, work, plan, scratch, hyper, norms, factor, share, threads, sync):
    """The update from factor * the gradient arena, clipped by norms where ``norms``.

    Returns the norm (0 where nobody asked); changes nothing where it is not finite.
    """
    norm = 0.0
    if norms:
        square_sums(work, plan, share, threads)
        barrier(sync, threads)
        norm = factor * sqrt(square_norm(work, plan, -1))
        if not isfinite(norm):
            return norm
        if get(hyper, codes.H_CLIP_NORM) > 0.0:
            factor *= min(1.0, get(hyper, codes.H_CLIP_NORM) / (norm + 1e-6))
    apply(params, slots, work, plan, hyper, scratch, factor, share, threads)
    return norm
