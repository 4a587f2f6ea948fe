"""What a hidden layer does after its product where it has a norm, dropout, a skip or prelu; dropout itself.

A layer without any of these never comes here.
"""

import numpy as np
from llvmlite import ir

from .. import codes, formulas
from ..codes import (
    L_A,
    L_DROPOUT,
    L_FAN_IN,
    L_FAN_OUT,
    L_HAT,
    L_LATE,
    L_LDA,
    L_LDW,
    L_LDX,
    L_LOW,
    L_NORM,
    L_ROWS,
    L_SKIP,
    L_SLOPE,
    L_STAT,
    L_TOTAL,
    L_W,
    L_X,
    P_DROPOUT,
    P_LDX,
    P_X,
)
from ..jit import jit
from .dense import ACTIVATE, activate, add_rows, each_vector, layer, packed_rows, update, whole_vectors
from .norms import batch_norm, column_dots, column_sums, layer_norm
from .simd import I1, Value, emitted, get, lanes_of, shift

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


@emitted("i i p i p p p i")
def prelu(e, rows, vectors, a, row, alpha, slope, low, keep):
    """a = a where that is above 0, else alpha * a by column, in place.

    With ``keep``, slope (laid out as a) = its derivative, low (likewise) = its derivative by alpha.
    """

    def body(e, r, c):
        at = e.b.add(e.b.mul(r, row), c)
        value, derivative, learned = formulas.prelu(e, e.load(a, at), e.load(alpha, c))
        e.store(value, a, at)
        with e.b.if_then(e.b.icmp_signed("!=", keep, e.int(0))):
            e.store(derivative, slope, at)
            e.store(learned, low, at)

    each_vector(e, 2, rows, vectors, ir.Constant(I1, 0), body)


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
def finish_layer(params, work, this, number, keep, seed, step, row, last):
    """Rows [row, last) of z become the layer's output: norm, activation, dropout, skip.

    step 0: nothing is dropped. With ``keep``, slopes times dropout go to L_SLOPE, and, with prelu, its
    derivative by its own slopes times dropout to L_LOW.
    """
    n, ld, norm = get(this, L_FAN_OUT), get(this, L_LDA), get(this, L_NORM)
    vectors = whole_vectors(work, n)
    gain = shift(params, get(this, L_W) + (get(this, L_FAN_IN) + 1) * get(this, L_LDW))
    beta, stat = shift(gain, get(this, L_LDW)), shift(work, get(this, L_STAT))
    learns, drops = get(this, L_LATE) == codes.PRELU, step != 0 and get(this, L_DROPOUT) != 0
    alpha = shift(params, get(this, L_W) + (get(this, L_ROWS) - 1) * get(this, L_LDW))
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
        low = shift(work, get(this, L_LOW) + at)
        if learns:
            prelu(rows, vectors, a, ld, alpha, slope, low, keep)
        elif keep:
            activate_keep(get(this, L_LATE), rows, vectors, a, ld, slope)
        else:
            activate(get(this, L_LATE), rows, vectors, a, ld, slope, 0)
        if drops:
            dropout(rows, vectors, row, 0, a, slope, ld, seed, step, number + 1, get(this, L_DROPOUT))
        if drops and learns:
            dropout(rows, vectors, row, 0, low, low, ld, seed, step, number + 1, get(this, L_DROPOUT))
        if get(this, L_SKIP) != 0:
            ldx = get(this, L_LDX)
            add_rows(rows, vectors, a, ld, shift(work, get(this, L_X) + row * ldx), ldx)
        row += rows


@jit
def vector_update(params, slots, stride, work, this, batch, code, row, last, constants, buffer):
    """Gradients of the rows behind the bias, [row, last) of them, sums over the batch, and the update.

    With a norm gain and shift, row 0 and 1; with prelu its slopes, the last row.
    """
    lanes = lanes_of(work)
    most, vectors = codes.TILE // lanes, whole_vectors(work, get(this, L_FAN_OUT))
    slopes = get(this, L_ROWS) - get(this, L_FAN_IN) - 2 if get(this, L_LATE) == codes.PRELU else -1
    for r in range(row, last):
        source = get(this, L_HAT) if r == 0 else get(this, L_SLOPE)
        place = get(this, L_W) + (get(this, L_FAN_IN) + 1 + r) * get(this, L_LDW)
        first = 0
        while first < vectors:
            count, c = min(most, vectors - first), first * lanes
            if r == slopes:
                column_dots(batch, count, buffer, shift(work, get(this, L_TOTAL) + c),
                            shift(work, get(this, L_LOW) + c), get(this, L_LDA))  # fmt: skip
            else:
                column_sums(batch, count, buffer, shift(work, source + c), get(this, L_LDA))
            update(code, 1, count, buffer, 0, shift(params, place + c), shift(slots, place + c), stride, 0,
                   constants)  # fmt: skip
            first += count


@jit
def drop_inputs(work, plan, seed, step, row, last):
    """Dropout of the batch's rows [row, last) of inputs."""
    x = shift(work, get(plan, P_X) + row * get(plan, P_LDX))
    vectors = whole_vectors(work, get(layer(plan, 0), L_FAN_IN))
    dropout(last - row, vectors, row, 0, x, x, get(plan, P_LDX), seed, step, 0, get(plan, P_DROPOUT))
