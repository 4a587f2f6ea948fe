"""What a hidden layer does after its product where it has a norm, dropout, a skip or prelu; dropout itself.

A layer without any of these never comes here.
"""

import numpy as np
from llvmlite import ir

from .. import codes, formulas
from ..jit import jit
from .dense import ACTIVATE, activate, add_rows, each_vector, packed_rows, slots_at, update
from .norms import batch_norm, column_dots, column_sums, layer_norm
from .plan import call_of, header_of, layer_at, whole_vectors
from .records import Draw, Matrix, Origin
from .simd import I1, Value, emitted, lanes_of, shift

AT_ONCE = 64  # vectors that all leaves of a layer pass over before the next ones: 4 KiB, which stay in L1


@emitted("i i i m p")
def activate_keep(e, code, rows, vectors, a, slope):
    """a = f(a), in place, and slope (laid out as a) = f'(a), for any activation."""

    def case(formula):
        def body(e, r, c):
            at = e.b.add(e.b.mul(r, a.stride), c)
            value, derivative = formula(e, e.load(a.pointer, at))
            e.store(value, a.pointer, at)
            e.store(derivative, slope, at)

        return lambda: each_vector(e, 2, rows, vectors, packed_rows(e, vectors, a.stride), body)

    def from_output(name, f):
        def formula(e, z):
            value = f(e, z)
            return value, formulas.SLOPE[name](e, value) if name in formulas.SLOPE else e.constant(1.0)

        return case(formula)

    e.switch(
        code,
        {c: from_output(c, f) for c, f in formulas.ACTIVATION.items()}
        | {c: case(f) for c, f in formulas.ACTIVATION_AND_SLOPE.items()},
        lambda: e.call_address(code, ACTIVATE, None, (code, rows, vectors, a, slope, e.int(1))),
    )


@emitted("i i m p p p i")
def prelu(e, rows, vectors, a, alpha, slope, low, keep):
    """a = a where that is above 0, else alpha * a by column, in place.

    With ``keep``, slope (laid out as a) = its derivative, low (likewise) = its derivative by alpha.
    """

    def body(e, r, c):
        at = e.b.add(e.b.mul(r, a.stride), c)
        value, derivative, learned = formulas.prelu(e, e.load(a.pointer, at), e.load(alpha, c))
        e.store(value, a.pointer, at)
        with e.b.if_then(e.b.icmp_signed("!=", keep, e.int(0))):
            e.store(derivative, slope, at)
            e.store(learned, low, at)

    each_vector(e, 2, rows, vectors, ir.Constant(I1, 0), body)


@emitted("i i m p o d")
def dropout(e, rows, vectors, a, slope, origin, draw):
    """a and slope *= 1 / (1 - rate), or 0 where the bits are below the rate; in place.

    The bits are a function of the draw's seed, batch and place, and of row and column from the origin on.
    slope: laid out as a; it may be a, which is scaled once.
    """
    high = lambda x: e.word(e.b.lshr(x, e.int(32)))  # noqa: E731
    keys = [e.word(e.int(key)) for key in formulas.KEYS]
    for word in (
        e.word(draw.seed),
        high(draw.seed),
        e.word(draw.batch),
        high(draw.batch),
        e.word(draw.place),
    ):
        keys = [formulas.chain(key, word) for key in keys]
    double = ir.DoubleType()
    left = e.b.sitofp(e.b.sub(e.int(codes.DROPOUT_RANGE), draw.rate), double)
    factor = e.b.fdiv(ir.Constant(double, float(codes.DROPOUT_RANGE)), left)
    factor = factor if e.is64 else e.b.fptrunc(factor, e.real)
    again = e.b.icmp_unsigned("!=", a.pointer, slope)

    def scale(e, r, c, one, two):
        numbers = e.lane_words() + e.words(e.word(e.b.add(c, origin.column)))
        bits = formulas.random_bits(e.words(one), e.words(two), numbers)
        kept = Value(e, e.b.icmp_unsigned(">=", bits.ir, e.words(e.word(draw.rate)).ir))
        mask, at = e.select(kept, e.splat(factor), 0.0), e.b.add(e.b.mul(r, a.stride), c)
        e.store(e.load(a.pointer, at) * mask, a.pointer, at)
        with e.b.if_then(again):
            e.store(e.load(slope, at) * mask, slope, at)

    wide = e.wider(2)
    pairs = e.b.udiv(vectors, e.int(2))
    with e.loop(rows) as r:
        word = e.word(e.b.add(origin.row, r))
        one, two = (formulas.chain(key, word) for key in keys)
        with e.loop(pairs) as v:
            scale(wide, r, e.b.mul(v, e.int(wide.lanes)), one, two)
        with e.loop(e.b.and_(vectors, e.int(1))):
            scale(e, r, e.b.mul(pairs, e.int(wide.lanes)), one, two)


@jit
def finish_layer(net, index, keep, drops, rows):
    """Rows of z become layer ``index``'s output: norm, activation, dropout, skip.

    drops: number of the batch, 0: nothing is dropped. With ``keep``, slopes times dropout go to L_SLOPE, and,
    with prelu, its derivative by its own slopes times dropout to L_LOW.
    """
    params, work, this = net.params, net.work, layer_at(net.plan, index)
    vectors = whole_vectors(work, this.fan_out)
    gain = shift(params, this.w + (this.fan_in + 1) * this.ldw)
    beta, stat = shift(gain, this.ldw), shift(work, this.stat)
    learns, draw = this.late == codes.PRELU, Draw(call_of(net.call).seed, drops, index + 1, this.dropout)
    alpha = shift(params, this.w + (this.rows - 1) * this.ldw)
    most = max(np.int64(1), AT_ONCE // vectors)
    row = rows.begin
    while row < rows.end:
        count, at, origin = min(most, rows.end - row), row * this.lda, Origin(row, 0)
        a = Matrix(shift(work, this.a + at), this.lda)
        slope, hat, low = shift(work, this.slope + at), shift(work, this.hat + at), shift(work, this.low + at)
        if this.norm == codes.LAYER_NORM:
            layer_norm(count, this.fan_out, a, hat, shift(stat, row), gain, beta)
        elif this.norm == codes.BATCH_NORM:
            batch_norm(count, vectors, a, hat, Matrix(stat, this.lda), gain, beta)
        if learns:
            prelu(count, vectors, a, alpha, slope, low, keep)
        elif keep:
            activate_keep(this.late, count, vectors, a, slope)
        else:
            activate(this.late, count, vectors, a, slope, 0)
        if drops != 0 and this.dropout != 0:
            dropout(count, vectors, a, slope, origin, draw)
            if learns:
                dropout(count, vectors, Matrix(low, this.lda), low, origin, draw)
        if this.skip != 0:
            add_rows(count, vectors, a, Matrix(shift(work, this.x + row * this.ldx), this.ldx))
        row += count


@jit
def vector_update(net, this, rule, batch, rows, buffer):
    """Gradients of rows behind the bias, sums over the batch, and what ``rule`` does with them.

    With a norm gain and shift, row 0 and 1; with prelu its slopes, the last row.
    """
    work, lanes = net.work, lanes_of(net.work)
    most, vectors = codes.TILE // lanes, whole_vectors(work, this.fan_out)
    slopes = this.rows - this.fan_in - 2 if this.late == codes.PRELU else -1
    for r in range(rows.begin, rows.end):
        source = this.hat if r == 0 else this.slope
        place = (this.fan_in + 1 + r) * this.ldw
        first = 0
        while first < vectors:
            count, c = min(most, vectors - first), first * lanes
            if r == slopes:
                column_dots(batch, count, buffer, Matrix(shift(work, this.total + c), this.lda),
                            shift(work, this.low + c))  # fmt: skip
            else:
                column_sums(batch, count, buffer, Matrix(shift(work, source + c), this.lda))
            w = Matrix(shift(net.params, this.w + place + c), 0)
            update(rule.code, 1, count, Matrix(buffer, 0), w, slots_at(rule, place + c), rule.bias_constants)
            first += count


@jit
def drop_inputs(net, drops, rows):
    """Dropout of the batch's rows of inputs."""
    head = header_of(net.plan)
    x = Matrix(shift(net.work, head.x + rows.begin * head.ldx), head.ldx)
    vectors = whole_vectors(net.work, layer_at(net.plan, np.int64(0)).fan_in)
    draw = Draw(call_of(net.call).seed, drops, 0, head.dropout)
    dropout(rows.end - rows.begin, vectors, x, x.pointer, Origin(rows.begin, 0), draw)
