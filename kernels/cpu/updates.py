"""The second half of an update: gradients that lie in memory, layers' constants, what constrains the weights.

``dense.update`` is the formula over vectors; here is what it is told, once an update, and the path that keeps
gradients: norms and clipping, then the update of long rows. Then max_norm and the average of the weights.
"""

from math import isfinite, sqrt

import numpy as np

from .. import codes
from ..codes import K_CONSTANTS, S_CONSTANTS
from ..jit import jit
from .dense import average, limit_columns, scale, update
from .losses import square_sum_row
from .plan import embedding_at, header_of, layer_at, share_of, whole_vectors
from .records import Matrix
from .simd import address, get, item_of, lanes_of, put, shift
from .team import barrier


@jit
def parameter_groups(plan):
    """How many there are: the layers, then the tables of embeddings."""
    head = header_of(plan)
    return head.layers + head.embeddings


@jit
def parameter_group(plan, index):
    """(first place, size, whether it trains) of group ``index`` in params."""
    layers = header_of(plan).layers
    if index < layers:
        this = layer_at(plan, index)
        return this.w, this.rows * this.ldw, this.frozen == 0
    this = embedding_at(plan, index - layers)
    return this.table, this.categories * this.ld, layer_at(plan, np.int64(0)).frozen == 0


@jit
def blocks_of(size):
    """Blocks of a group's gradient whose squares are summed as one."""
    return (size + codes.NORM_BLOCK - 1) // codes.NORM_BLOCK


@jit
def square_sums(net, crew, unit):
    """Sums of squares of the gradient arena, in units of 1 / unit, block by block: this thread's share."""
    plan, head, total = net.plan, header_of(net.plan), 0
    for index in range(parameter_groups(plan)):
        total += blocks_of(parameter_group(plan, index)[1])
    begin, end = share_of(total, crew.thread, crew.threads)
    partials, done = shift(net.work, head.partials), 0
    for index in range(parameter_groups(plan)):
        start, size, _ = parameter_group(plan, index)
        gradient = shift(net.work, head.gradient + start)
        for b in range(max(begin, done), min(end, done + blocks_of(size))):
            at = (b - done) * codes.NORM_BLOCK
            square_sum_row(min(codes.NORM_BLOCK, size - at), shift(gradient, at), shift(partials, b), unit)
        done += blocks_of(size)


@jit
def square_norm(net, only):
    """Sum of squares of group ``only``'s gradient, or, for -1, of all: one order."""
    plan, total, done = net.plan, 0.0, 0
    partials = shift(net.work, header_of(plan).partials)
    for index in range(parameter_groups(plan)):
        blocks = blocks_of(parameter_group(plan, index)[1])
        if only < 0 or index == only:
            for b in range(done, done + blocks):
                total += get(partials, b)
        done += blocks
    return total


@jit
def apply_block(net, factor, at, end, constants):
    """The update of parameters [at, end) from factor * their gradient: one long row."""
    head = header_of(net.plan)
    if at < end:
        count, gradient = (end - at) // lanes_of(net.work), shift(net.work, head.gradient + at)
        scale(count, gradient, factor)
        update(head.optimizer, 1, count, Matrix(gradient, 0), Matrix(shift(net.params, at), 0),
               Matrix(shift(net.slots, at), head.size), constants)  # fmt: skip


@jit
def apply(net, crew, factor, unit):
    """The update from factor * the gradient arena: each group that trains is one long row, cut over
    the threads.

    Where layers are clipped, factor * a group's gradient is first scaled to H_CLIP_LAYER; unit: as
    ``square_sums`` had it.
    """
    plan, hyper = net.plan, net.hyper
    lanes, most = lanes_of(net.work), get(hyper, codes.H_CLIP_LAYER)
    for index in range(parameter_groups(plan)):
        start, size, trains = parameter_group(plan, index)
        if not trains:
            continue
        first, last = share_of(size // lanes, crew.thread, crew.threads)
        first, last = start + first * lanes, start + last * lanes
        own = factor
        if most > 0.0:
            own *= min(1.0, most / (factor * sqrt(square_norm(net, index)) / unit + 1e-6))
        owner, bare = 0, last  # the layer that it belongs to; where biases and what follows them begin
        if index < header_of(plan).layers:
            this = layer_at(plan, index)
            owner, bare = index, start + this.fan_in * this.ldw
        constants = layer_constants(crew.scratch, hyper, owner, np.int64(1))
        apply_block(net, own, first, min(last, bare), constants)
        constants = layer_constants(crew.scratch, hyper, owner, np.int64(2))
        apply_block(net, own, max(first, bare), last, constants)


@jit
def constrain(net, crew):
    """Columns of W no longer than H_MAX_NORM; then the average of the weights, if one is kept."""
    head, lanes = header_of(net.plan), lanes_of(net.work)
    for index in range(head.layers):
        this = layer_at(net.plan, index)
        if this.frozen != 0:
            continue
        begin, end = share_of(whole_vectors(net.work, this.fan_out), crew.thread, crew.threads)
        w = Matrix(shift(net.params, this.w + begin * lanes), this.ldw)
        limit_columns(this.fan_in, end - begin, w, get(net.hyper, codes.H_MAX_NORM))
    own = get(crew.scratch, S_CONSTANTS + codes.C_AVERAGE)
    if own > 0.0:
        barrier(crew.sync, crew.threads)
        first, last = share_of(head.size // lanes, crew.thread, crew.threads)
        mean = shift(net.slots, (head.slots - 1) * head.size + first * lanes)
        average(last - first, mean, shift(net.params, first * lanes), own)


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
def small_unit(like):
    """A power of two by which any float has a square, and a sum of such squares is finite."""
    return 2.0**-100 if item_of(like) == 4 else 2.0**-600


@jit
def stored_update(net, crew, norms, factor):
    """The update from factor * the gradient arena, clipped by norms where ``norms``.

    Returns the norm (0 where nobody asked); changes nothing where it is not finite.
    """
    norm, unit = 0.0, 1.0
    if norms:
        square_sums(net, crew, unit)
        barrier(crew.sync, crew.threads)
        norm = sqrt(square_norm(net, np.int64(-1)))
        if not isfinite(norm):  # the norm itself, or only its square
            barrier(crew.sync, crew.threads)
            unit = small_unit(net.work)
            square_sums(net, crew, unit)
            barrier(crew.sync, crew.threads)
            norm = sqrt(square_norm(net, np.int64(-1))) / unit
        norm *= factor
        if not isfinite(norm):
            return norm
        if get(net.hyper, codes.H_CLIP_NORM) > 0.0:
            factor *= min(1.0, get(net.hyper, codes.H_CLIP_NORM) / (norm + 1e-6))
    apply(net, crew, factor, unit)
    return norm
