"""Embeddings: categorical columns of X become rows of a table, behind the numeric columns."""

import numpy as np

from .. import codes
from ..codes import (
    E_CATEGORIES,
    E_COLUMN,
    E_GRADIENT,
    E_LD,
    E_PLACE,
    E_TABLE,
    E_WIDTH,
    L_FAN_IN,
    P_BATCH,
    P_CODES,
    P_DROPOUT,
    P_DX,
    P_EMBEDDINGS,
    P_LAYERS,
    P_LDDX,
    P_LDX,
    P_RUNS,
    P_X,
)
from ..jit import jit
from .data import convert_row
from .dense import layer, share_of, update, whole_vectors
from .layers import dropout
from .simd import emitted, get, lanes_of, put, shift


@emitted("i p p")
def copy_row(e, n, out, x):
    """out[:n] = x[:n], nothing behind them."""
    whole = e.b.and_(n, e.int(-e.lanes))
    with e.loop(whole, e.lanes) as c:
        e.store(e.load(x, c), out, c)
    with e.loop(e.b.sub(n, whole)) as rest:
        c = e.b.add(whole, rest)
        e.b.store(e.scalar(x, c), e.at(out, c))


@emitted("i p p")
def add_row(e, n, out, x):
    """out[:n] += x[:n], nothing behind them."""
    whole = e.b.and_(n, e.int(-e.lanes))
    with e.loop(whole, e.lanes) as c:
        e.store(e.load(out, c) + e.load(x, c), out, c)
    with e.loop(e.b.sub(n, whole)) as rest:
        c = e.b.add(whole, rest)
        e.b.store(e.b.fadd(e.scalar(out, c), e.scalar(x, c)), e.at(out, c))


@emitted("i p")
def clear(e, vectors, out):
    """out = 0"""
    with e.loop(vectors) as v:
        e.store(e.constant(0.0), out, e.b.mul(v, e.int(e.lanes)))


@jit
def entries(plan):
    """The runs of numeric columns, then the embeddings."""
    return shift(plan, codes.HEADER + get(plan, P_LAYERS) * codes.LAYER_COLUMNS)


@jit
def embedding(plan, index):
    """The columns of one embedding."""
    return shift(entries(plan), get(plan, P_RUNS) * codes.RUN_COLUMNS + index * codes.EMBEDDING_COLUMNS)


@jit
def embedded_from(plan):
    """Where in a row of inputs the first embedding begins."""
    return get(embedding(plan, 0), E_PLACE)


@jit
def gather_mixed(params, work, plan, dtype, source, step, r):
    """Row r of the batch from the numbers at ``source``, ``step`` bytes apart: numeric, then embedded.

    Returns 1 if a number is not finite, else 0.
    """
    bad = 0
    x = shift(work, get(plan, P_X) + r * get(plan, P_LDX))
    for index in range(get(plan, P_RUNS)):
        run = shift(entries(plan), index * codes.RUN_COLUMNS)
        bad |= convert_row(dtype, get(run, codes.R_COUNT), source + get(run, codes.R_COLUMN) * step, step,
                          shift(x, get(run, codes.R_PLACE)))  # fmt: skip
    for index in range(get(plan, P_EMBEDDINGS)):
        this = embedding(plan, index)
        kept = shift(work, get(plan, P_CODES) + index * get(plan, P_BATCH) + r)
        convert_row(dtype, np.int64(1), source + get(this, E_COLUMN) * step, step, kept)
        # checked before, but the data may change meanwhile: never outside the table
        category = min(max(np.int64(get(kept, 0)), 0), get(this, E_CATEGORIES) - 1)
        put(kept, 0, category)
        copy_row(get(this, E_WIDTH), shift(x, get(this, E_PLACE)),
                shift(params, get(this, E_TABLE) + category * get(this, E_LD)))  # fmt: skip
    return bad


@jit
def drop_input_gradients(work, plan, seed, step, row, last):
    """P_DX, rows [row, last), through the inputs' dropout."""
    ld, column = get(plan, P_LDDX), embedded_from(plan)
    dx = shift(work, get(plan, P_DX) + row * ld)
    vectors = whole_vectors(work, get(layer(plan, 0), L_FAN_IN) - column)
    dropout(last - row, vectors, row, column, dx, dx, ld, seed, step, 0, get(plan, P_DROPOUT))


@jit
def embedding_update(params, slots, stride, work, plan, batch, code, stored, share, threads, constants):
    """This thread's share of every table's categories: gradient, and what ``code`` does with it.

    The gradient of a category is the sum over the batch's rows that have it, in their order; where no
    row has it, 0: that too is a step of the optimizer, as in torch. stored: the gradient stays in slots.
    """
    numeric = embedded_from(plan)
    for index in range(get(plan, P_EMBEDDINGS)):
        this = embedding(plan, index)
        ld, table = get(this, E_LD), get(this, E_TABLE)
        first, last = share_of(get(this, E_CATEGORIES), share, threads)
        vectors = (last - first) * ld // lanes_of(work)
        gradient = shift(slots, table) if stored else shift(work, get(this, E_GRADIENT))
        if code != codes.ADD:
            clear(vectors, shift(gradient, first * ld))
        kept = shift(work, get(plan, P_CODES) + index * get(plan, P_BATCH))
        dx = shift(work, get(plan, P_DX) + get(this, E_PLACE) - numeric)
        for r in range(batch):
            category = np.int64(get(kept, r))
            if first <= category < last:
                add_row(get(this, E_WIDTH), shift(gradient, category * ld), shift(dx, r * get(plan, P_LDDX)))
        if not stored:
            at = table + first * ld
            update(code, 1, vectors, shift(gradient, first * ld), 0, shift(params, at), shift(slots, at),
                   stride, 0, constants)  # fmt: skip
