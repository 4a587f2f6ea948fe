"""Embeddings: categorical columns of X become rows of a table, behind the numeric columns."""

import numpy as np

from .. import codes
from ..jit import jit
from .data import convert_row
from .dense import add_rows, slots_at, update
from .layers import dropout
from .plan import call_of, embedding_at, header_of, layer_at, run_at, share_of, whole_vectors
from .records import Draw, Matrix, Origin, Slice
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
def gather_mixed(net, source, row):
    """Row ``row`` of the batch from the numbers at address ``source``: numeric columns, then embedded ones.

    Returns 1 if a number is not finite, else 0.
    """
    plan, work, head, call = net.plan, net.work, header_of(net.plan), call_of(net.call)
    bad, x = 0, shift(work, head.x + row * head.ldx)
    for index in range(head.runs):
        run = run_at(plan, index)
        bad |= convert_row(call.x_type, run.count, source + run.column * call.x_col, call.x_col,
                           shift(x, run.place))  # fmt: skip
    for index in range(head.embeddings):
        this = embedding_at(plan, index)
        kept = shift(work, head.codes + index * head.batch + row)
        convert_row(call.x_type, np.int64(1), source + this.column * call.x_col, call.x_col, kept)
        # checked before, but the data may change meanwhile: never outside the table
        category = min(max(np.int64(get(kept, 0)), 0), this.categories - 1)
        put(kept, 0, category)
        copy_row(this.width, shift(x, this.place), shift(net.params, this.table + category * this.ld))
    return bad


@jit
def drop_input_gradients(net, drops, rows):
    """The gradient of the embedded columns, some rows, through the inputs' dropout."""
    head = header_of(net.plan)
    dx = Matrix(shift(net.work, head.dx + rows.begin * head.lddx), head.lddx)
    vectors = whole_vectors(net.work, layer_at(net.plan, np.int64(0)).fan_in - head.sought)
    draw = Draw(call_of(net.call).seed, drops, 0, head.dropout)
    dropout(rows.end - rows.begin, vectors, dx, dx.pointer, Origin(rows.begin, head.sought), draw)


@jit
def embedding_update(net, rule, batch, stored, crew):
    """This thread's share of every table's categories: gradient, and what ``rule`` does with it.

    The gradient of a category is the sum over the batch's rows that have it, in their order; where no
    row has it, 0: that too is a step of the optimizer, as in torch. Of long batches part by part. stored: the
    gradient stays in slots.
    """
    work, head = net.work, header_of(net.plan)
    for index in range(head.embeddings):
        this = embedding_at(net.plan, index)
        own = share_of(this.categories, crew.thread, crew.threads)
        count, at = (own.end - own.begin) * this.ld, this.table + own.begin * this.ld
        gradient, part = shift(work, this.gradient), shift(work, this.gradient + this.categories * this.ld)
        if stored:
            gradient, part = shift(rule.slots.pointer, this.table), shift(work, this.gradient)
        vectors, first = count // lanes_of(work), own.begin * this.ld
        if rule.code != codes.ADD:
            clear(vectors, shift(gradient, first))
        most = max(np.int64(codes.EMBEDDED_ROWS), this.categories)
        if batch <= most:
            add_embedded(net, index, gradient, own, Slice(0, batch))
        else:
            for row in range(0, batch, most):
                clear(vectors, shift(part, first))
                add_embedded(net, index, part, own, Slice(row, min(batch, row + most)))
                add_rows(1, vectors, Matrix(shift(gradient, first), 0), Matrix(shift(part, first), 0))
        if not stored:
            update(rule.code, 1, vectors, Matrix(shift(gradient, first), 0), Matrix(shift(net.params, at), 0),
                   slots_at(rule, at), rule.constants)  # fmt: skip


@jit
def add_embedded(net, index, gradient, categories, rows):
    """gradient[c] += the gradients at embedding ``index`` of the rows whose category is c, of some."""
    work, head, this = net.work, header_of(net.plan), embedding_at(net.plan, index)
    kept = shift(work, head.codes + index * head.batch)
    dx = shift(work, head.dx + this.place - head.sought)
    for row in range(rows.begin, rows.end):
        category = np.int64(get(kept, row))
        if categories.begin <= category < categories.end:
            add_row(this.width, shift(gradient, category * this.ld), shift(dx, row * head.lddx))
