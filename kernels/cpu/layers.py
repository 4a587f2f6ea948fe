"""What a hidden layer does after its product where it has a norm, dropout or a skip; dropout itself.

A layer without any of these never comes here.
"""

import numpy as np
from llvmlite import ir

from .. import codes, formulas
from ..codes import (
    L_A,
    L_DROPOUT,
    L_HAT,
    L_IN,
    L_LATE,
    L_LDA,
    L_LDW,
    L_LDX,
    L_NORM,
    L_OUT,
    L_SKIP,
    L_SLOPE,
    L_STAT,
    L_W,
    L_X,
    P_DROPOUT,
    P_LDX,
    P_X,
)
from ..jit import jit
from .dense import ACTIVATE, activate, add_rows, each_vector, packed_rows, whole_vectors
from .norms import batch_norm, layer_norm
from .simd import Value, emitted, get, shift

BLOCK = 64  # vectors that all leaves of a layer pass over before the next ones: 4 KiB, which stay in L1


@emitted("i i i p i p")
def activate_keep(e, code, rows, vectors, a, row, slope):
    """a = f(a), in place, and slope (laid out as a) = f'(a), for any activation."""

    def case(formula):
        def body(e, r, c):
            at = e.b.add(e.b.mul(r, row), c)
            value, derivative = formula(e, e.load(a, at))
            e.store(value, a, at)
            e.store(derivative, slope, at)

        return lambda: each_vector(e, 2, rows, vectors, packed_rows(e, vectors, row), body)

    def from_output(name, f):
        def formula(e, z):
            value = f(e, z)
            return value, formulas.SLOPE[name](e, value) if name in formulas.SLOPE else e.constant(1.0)

        return case(formula)

    e.switch(
        code,
        {c: from_output(c, f) for c, f in formulas.ACTIVATION.items()}
        | {c: case(f) for c, f in formulas.ACTIVATION_AND_SLOPE.items()},
        lambda: e.call_address(code, ACTIVATE, None, (code, rows, vectors, a, row, slope, e.int(1))),
    )


@emitted("i i i i p p i i i i i")
def dropout(e, rows, vectors, first, column, a, slope, row, seed, step, place, rate):
    """a and slope *= 1 / (1 - rate), or 0 where the bits are below the rate; in place.

    The bits are a function of seed, step, place (number of the layer, 0 the inputs), first + the row
    and column + the column. rate: in 1 / DROPOUT_RANGE. slope may be a: then it is scaled once.
    """
    high = lambda x: e.word(e.b.lshr(x, e.int(32)))  # noqa: E731
    keys = [e.word(e.int(key)) for key in formulas.KEYS]
    for word in (e.word(seed), high(seed), e.word(step), high(step), e.word(place)):
        keys = [formulas.chain(key, word) for key in keys]
    double = ir.DoubleType()
    left = e.b.sitofp(e.b.sub(e.int(codes.DROPOUT_RANGE), rate), double)
    factor = e.b.fdiv(ir.Constant(double, float(codes.DROPOUT_RANGE)), left)
    factor = factor if e.is64 else e.b.fptrunc(factor, e.real)
    again = e.b.icmp_unsigned("!=", a, slope)

    def scale(e, r, c, one, two):
        numbers = e.lane_words() + e.words(e.word(e.b.add(c, column)))
        bits = formulas.random_bits(e.words(one), e.words(two), numbers)
        kept = Value(e, e.b.icmp_unsigned(">=", bits.ir, e.words(e.word(rate)).ir))
        mask, at = e.select(kept, e.splat(factor), 0.0), e.b.add(e.b.mul(r, row), c)
        e.store(e.load(a, at) * mask, a, at)
        with e.b.if_then(again):
            e.store(e.load(slope, at) * mask, slope, at)

    wide = e.wider(2)
    pairs = e.b.udiv(vectors, e.int(2))
    with e.loop(rows) as r:
        word = e.word(e.b.add(first, r))
        one, two = (formulas.chain(key, word) for key in keys)
        with e.loop(pairs) as v:
            scale(wide, r, e.b.mul(v, e.int(wide.lanes)), one, two)
        with e.loop(e.b.and_(vectors, e.int(1))):
            scale(e, r, e.b.mul(pairs, e.int(wide.lanes)), one, two)


@jit
def layer(plan, index):
    """The columns of one layer."""
    return shift(plan, codes.HEADER + index * codes.LAYER_COLUMNS)


@jit
def finish_layer(params, work, this, number, keep, seed, step, row, last):
    """Rows [row, last) of z become the layer's output: norm, activation, dropout, skip.

    step 0: nothing is dropped. With ``keep``, slopes times dropout go to L_SLOPE.
    """
    n, ld, norm = get(this, L_OUT), get(this, L_LDA), get(this, L_NORM)
    vectors = whole_vectors(work, n)
    gain = shift(params, get(this, L_W) + (get(this, L_IN) + 1) * get(this, L_LDW))
    beta, stat = shift(gain, get(this, L_LDW)), shift(work, get(this, L_STAT))
    most = max(np.int64(1), BLOCK // vectors)
    while row < last:
        rows, at = min(most, last - row), row * ld
        a, slope, hat = (
            shift(work, get(this, L_A) + at),
            shift(work, get(this, L_SLOPE) + at),
            shift(work, get(this, L_HAT) + at),
        )
        if norm == codes.LAYER_NORM:
            layer_norm(rows, n, a, ld, hat, shift(stat, row), gain, beta)
        elif norm == codes.BATCH_NORM:
            batch_norm(rows, vectors, a, hat, ld, stat, ld, gain, beta)
        if keep:
            activate_keep(get(this, L_LATE), rows, vectors, a, ld, slope)
        else:
            activate(get(this, L_LATE), rows, vectors, a, ld, slope, 0)
        if step != 0 and get(this, L_DROPOUT) != 0:
            dropout(rows, vectors, row, 0, a, slope, ld, seed, step, number + 1, get(this, L_DROPOUT))
        if get(this, L_SKIP) != 0:
            ldx = get(this, L_LDX)
            add_rows(rows, vectors, a, ld, shift(work, get(this, L_X) + row * ldx), ldx)
        row += rows


@jit
def drop_inputs(work, plan, seed, step, row, last):
    """Dropout of the batch's rows [row, last) of inputs."""
    x = shift(work, get(plan, P_X) + row * get(plan, P_LDX))
    vectors = whole_vectors(work, get(shift(plan, codes.HEADER), L_IN))
    dropout(last - row, vectors, row, 0, x, x, get(plan, P_LDX), seed, step, 0, get(plan, P_DROPOUT))
