"""The second half of an update: its constants, gradients that lie in memory, what constrains the weights.

``dense.update`` is the formula over vectors; here is what it is told, once an update, and the path that keeps
gradients: norms and clipping, then the update of long rows. Then max_norm and the average of the weights.
"""

from math import isfinite, sqrt

import numpy as np

from .. import codes
from ..codes import (
    E_CATEGORIES,
    E_LD,
    E_TABLE,
    K_RATES,
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
def constrain(params, slots, work, plan, hyper, scratch, number, share, threads, sync):
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
    if get(hyper, codes.H_EMA) > 0.0:
        barrier(sync, threads)
        first, last = size // lanes * share // threads, size // lanes * (share + 1) // threads
        mean = shift(slots, (get(plan, P_SLOTS) - 1) * size + first * lanes)
        average(last - first, mean, shift(params, first * lanes), ema_share(hyper, number))


@jit
def ema_share(hyper, number):
    """Share of the weights in their moving average: all at the first update, as torch's swa_utils."""
    return 1.0 if number == 1 else 1.0 - get(hyper, codes.H_EMA)


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
def update_constants(scratch, plan, hyper, call, update, number):
    """What the update's vectors need at update ``number`` (from 1), the epoch's ``update`` (from 0)."""
    c = shift(scratch, S_CONSTANTS)
    lr, momentum, product = get(hyper, codes.H_LR), get(hyper, codes.H_MOMENTUM), 0.0
    if get(call, K_RATES) != 0:
        rates = shift(address(hyper, get(call, K_RATES)), update * codes.RATES)
        lr, momentum, product = get(rates, 0), get(rates, 1), get(rates, 2)
    decoupled, decay = get(hyper, codes.H_DECOUPLED) != 0.0, get(hyper, codes.H_WEIGHT_DECAY)
    put(c, codes.C_LR, lr)
    put(c, codes.C_L2, 0.0 if decoupled else decay)
    put(c, codes.C_DECAY, lr * decay if decoupled else 0.0)
    clip, ema = get(hyper, codes.H_CLIP_VALUE), get(hyper, codes.H_EMA)
    put(c, codes.C_L1, get(hyper, codes.H_L1))
    put(c, codes.C_CLIP, clip if clip > 0.0 else np.inf)
    fused = ema > 0.0 and get(hyper, codes.H_MAX_NORM) == 0.0  # else of what the constraint leaves
    put(c, codes.C_EMA, ema_share(hyper, number) if fused else 0.0)
    rule = get(plan, P_OPTIMIZER) % codes.RULES
    if rule == codes.SGD_MOMENTUM:
        nesterov = get(hyper, codes.H_NESTEROV)
        put(c, codes.C_MOMENTUM, momentum)
        put(c, codes.C_FRESH, 1.0 if number == 1 else 1.0 - get(hyper, codes.H_DAMPENING))
        put(c, codes.C_GRADIENT, nesterov)
        put(c, codes.C_BUFFER, momentum if nesterov != 0.0 else 1.0)
    elif rule != codes.SGD:
        moment_constants(c, rule, hyper, lr, momentum, product, number)


@jit
def moment_constants(c, rule, hyper, lr, b1, product, t):
    """The part of update_constants for rules that divide by a mean, all but SGD."""
    b2 = get(hyper, codes.H_BETA2)
    put(c, codes.C_BETA1, 1.0 - b1)
    put(c, codes.C_BETA2, 1.0 - b2)
    put(c, codes.C_EPS, max(get(hyper, codes.H_EPS), 1e-37))  # never 0 / 0, in padding above all
    if rule == codes.ADAM or rule == codes.AMSGRAD:
        put(c, codes.C_LR, lr / (1.0 - b1**t))
        put(c, codes.C_ROOT, 1.0 / sqrt(1.0 - b2**t))
    elif rule == codes.NADAM:
        decay = get(hyper, codes.H_MOMENTUM_DECAY)
        now, after = b1 * (1.0 - 0.5 * 0.96 ** (t * decay)), b1 * (1.0 - 0.5 * 0.96 ** ((t + 1) * decay))
        put(c, codes.C_ROOT, 1.0 / sqrt(1.0 - b2**t))
        put(c, codes.C_SLOPE, (1.0 - now) / (1.0 - product))
        put(c, codes.C_MEAN, after / (1.0 - product * after))
    elif rule == codes.RADAM:
        end, power = 2.0 / (1.0 - b2) - 1.0, b2**t
        rho = end - 2.0 * t * power / (1.0 - power)
        sized = rho > 5.0
        rectified = (
            sqrt((rho - 4.0) * (rho - 2.0) * end / ((end - 4.0) * (end - 2.0) * rho)) if sized else 0.0
        )
        put(c, codes.C_LR, lr / (1.0 - b1**t))
        put(c, codes.C_SIZED, rectified * sqrt(1.0 - power))
        put(c, codes.C_PLAIN, 0.0 if sized else 1.0)
    elif rule == codes.ADAMAX:
        put(c, codes.C_LR, lr / (1.0 - b1**t))
        put(c, codes.C_KEEP, b2)
    elif rule == codes.ADAGRAD:
        put(c, codes.C_LR, lr / (1.0 + (t - 1) * get(hyper, codes.H_LR_DECAY)))
        put(c, codes.C_START, get(hyper, codes.H_START))
    elif rule != codes.ADADELTA and rule != codes.LION:
        put(c, codes.C_INERTIA, b1)


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
