"""Layer norm and batch norm between a hidden layer's product and its activation, forward and backward.

Every sum has one order: over a row lane by lane, then the lanes by halves; over the rows in four chains.
"""

from llvmlite import ir

from .. import codes
from ..codes import (
    L_A,
    L_DELTA,
    L_FAN_IN,
    L_FAN_OUT,
    L_FROZEN,
    L_HAT,
    L_LDA,
    L_LDW,
    L_NORM,
    L_RUNNING,
    L_SLOPE,
    L_STAT,
    L_W,
    P_LAYERS,
)
from ..jit import jit
from .dense import each_vector, layer, share_of, whole_vectors
from .losses import masked_columns
from .simd import I1, Value, emitted, get, lanes_of, shift
from .team import barrier


def _rows_at_once(e, rows, body):
    """body(list of rows, i64): four at a time, whose chains run side by side, then one by one."""
    fours = e.b.and_(rows, e.int(-4))
    with e.loop(fours, 4) as r:
        body([e.b.add(r, e.int(k)) for k in range(4)])
    with e.loop(e.b.sub(rows, fours)) as r:
        body([e.b.add(fours, r)])


def _row_sums(e, n, terms):
    """Sums over a row of each of terms(column), in every lane; padding counts for nothing."""
    cells = [e.cell(e.constant(0.0)) for _ in terms]

    def body(c, mask):
        for (total, set_total), term in zip(cells, terms, strict=True):
            set_total(total() + e.select(mask, term(c), 0.0))

    masked_columns(e, n, body)
    totals = [total() for total, _ in cells]
    step = e.lanes // 2
    while step:  # as Emitter.fold, all of them side by side
        lanes = [i ^ step for i in range(e.lanes)]
        totals = [t + Value(e, e.shuffle(t.ir, t.ir, lanes)) for t in totals]
        step //= 2
    return totals


@emitted("i i p i p p p p")
def layer_norm(e, rows, n, a, row, hat, inverse, gain, shift):
    """hat = (a - mean) / sqrt(variance + eps) of each row; a = gain * hat + shift, in place.

    inverse (rows,): 1 / sqrt(variance + eps). The variance is that of the n numbers, over n.
    """
    count = e.splat(e.b.sitofp(n, e.real))

    def some(numbers):
        places = [e.b.mul(r, row) for r in numbers]
        xs, outs = [e.at(a, at) for at in places], [e.at(hat, at) for at in places]
        totals = _row_sums(e, n, [lambda c, x=x: e.load(x, c) for x in xs])
        means = [total / count for total in totals]

        def square(x, mean):
            def term(c):
                d = e.load(x, c) - mean
                return d * d

            return term

        totals = _row_sums(e, n, [square(x, mean) for x, mean in zip(xs, means, strict=True)])
        factors = [1.0 / e.sqrt(total / count + codes.NORM_EPS) for total in totals]
        for r, factor in zip(numbers, factors, strict=True):
            e.b.store(e.first(factor), e.at(inverse, r))

        def finish(c, mask):
            g, b = e.load(gain, c), e.load(shift, c)
            for x, out, mean, factor in zip(xs, outs, means, factors, strict=True):
                value = e.select(mask, (e.load(x, c) - mean) * factor, 0.0)
                e.store(value, out, c)
                e.store(e.fma(value, g, b), x, c)

        masked_columns(e, n, finish)

    _rows_at_once(e, rows, some)


@emitted("i i p p p i p p")
def layer_norm_backward(e, rows, n, delta, grad, hat, row, inverse, gain):
    """delta = (h - mean(h) - hat mean(h hat)) inverse, h = grad * gain; hat *= grad, for the gain."""
    count = e.splat(e.b.sitofp(n, e.real))

    def some(numbers):
        places = [e.b.mul(r, row) for r in numbers]
        outs, gs, xs = ([e.at(p, at) for at in places] for p in (delta, grad, hat))
        h = lambda g, c: e.load(g, c) * e.load(gain, c)  # noqa: E731
        terms = [lambda c, g=g: h(g, c) for g in gs]
        terms += [lambda c, g=g, x=x: h(g, c) * e.load(x, c) for g, x in zip(gs, xs, strict=True)]
        totals = [total / count for total in _row_sums(e, n, terms)]
        means, slopes = totals[: len(numbers)], totals[len(numbers) :]
        factors = [e.splat(e.scalar(inverse, r)) for r in numbers]

        def finish(c, mask):
            for out, g, x, *row in zip(outs, gs, xs, means, slopes, factors, strict=True):
                mean, slope, factor = row
                value = e.load(x, c)
                e.store(e.select(mask, (h(g, c) - mean - value * slope) * factor, 0.0), out, c)
                e.store(value * e.load(g, c), x, c)

        masked_columns(e, n, finish)

    _rows_at_once(e, rows, some)


def _each_column(e, vectors, body):
    """body(e, column) for two vectors of columns at a time, then the last one."""
    wide, pairs = e.wider(2), e.b.udiv(vectors, e.int(2))
    with e.loop(pairs) as v:
        body(wide, e.b.mul(v, e.int(wide.lanes)))
    with e.loop(e.b.and_(vectors, e.int(1))):
        body(e, e.b.mul(pairs, e.int(wide.lanes)))


def _column_sums(e, rows, *terms):
    """Sums over the rows of terms(row), a vector each: four chains, added in one order."""
    cells = [[e.cell(e.constant(0.0)) for _ in range(4)] for _ in terms]
    quarter = e.b.and_(rows, e.int(-4))

    def put_in(r, k):
        for chains, term in zip(cells, terms, strict=True):
            total, set_total = chains[k]
            set_total(total() + term(r))

    with e.loop(quarter, 4) as r:
        for k in range(4):
            put_in(e.b.add(r, e.int(k)), k)
    with e.loop(e.b.sub(rows, quarter)) as r:
        put_in(e.b.add(quarter, r), 0)
    return [(c[0][0]() + c[1][0]()) + (c[2][0]() + c[3][0]()) for c in cells]


@emitted("i i p i p i")
def column_moments(e, rows, vectors, a, row, stat, stat_row):
    """Mean and variance (over ``rows``) of columns of a, and 1 / sqrt(variance + eps): rows N_... of stat."""

    def some(e, c):
        count = e.splat(e.b.sitofp(rows, e.real))
        x = lambda r: e.load(a, e.b.add(e.b.mul(r, row), c))  # noqa: E731
        [total] = _column_sums(e, rows, x)
        mean = total / count

        def square(r, mean=mean):
            d = x(r) - mean
            return d * d

        [total] = _column_sums(e, rows, square)
        variance = total / count
        inverse = 1.0 / e.sqrt(variance + codes.NORM_EPS)
        for k, value in ((codes.N_MEAN, mean), (codes.N_VARIANCE, variance), (codes.N_INVERSE, inverse)):
            e.store(value, stat, e.b.add(e.b.mul(stat_row, e.int(k)), c))

    _each_column(e, vectors, some)


@emitted("i p p i i")
def column_inverse(e, vectors, stat, running, stat_row, running_row):
    """Rows N_MEAN and N_INVERSE of stat from the running mean and variance; the backward pass's are 0."""
    with e.loop(vectors) as v:
        c = e.b.mul(v, e.int(e.lanes))
        variance = e.load(running, e.b.add(running_row, c))
        e.store(e.load(running, c), stat, e.b.add(e.b.mul(stat_row, e.int(codes.N_MEAN)), c))
        inverse = 1.0 / e.sqrt(variance + codes.NORM_EPS)
        e.store(inverse, stat, e.b.add(e.b.mul(stat_row, e.int(codes.N_INVERSE)), c))
        for k in (codes.N_SUM, codes.N_PRODUCT):  # what is constant has no gradient
            e.store(e.constant(0.0), stat, e.b.add(e.b.mul(stat_row, e.int(k)), c))


@emitted("i i p p i p i p p")
def batch_norm(e, rows, vectors, a, hat, row, stat, stat_row, gain, shift):
    """hat = (a - mean) * inverse by column; a = gain * hat + shift, in place."""

    def body(e, r, c):
        at = e.b.add(e.b.mul(r, row), c)
        mean, inverse = (
            e.load(stat, e.b.add(e.b.mul(stat_row, e.int(k)), c)) for k in (codes.N_MEAN, codes.N_INVERSE)
        )
        value = (e.load(a, at) - mean) * inverse
        e.store(value, hat, at)
        e.store(e.fma(value, e.load(gain, c), e.load(shift, c)), a, at)

    each_vector(e, 2, rows, vectors, ir.Constant(I1, 0), body)


@emitted("i i p p i p i")
def column_products(e, rows, vectors, grad, hat, row, stat, stat_row):
    """Rows N_SUM and N_PRODUCT of stat: means over the rows of grad and of grad * hat."""

    def some(e, c):
        count = e.splat(e.b.sitofp(rows, e.real))
        at = lambda r: e.b.add(e.b.mul(r, row), c)  # noqa: E731
        one, two = _column_sums(
            e, rows, lambda r: e.load(grad, at(r)), lambda r: e.load(grad, at(r)) * e.load(hat, at(r))
        )
        for k, value in ((codes.N_SUM, one), (codes.N_PRODUCT, two)):
            e.store(value / count, stat, e.b.add(e.b.mul(stat_row, e.int(k)), c))

    _each_column(e, vectors, some)


@emitted("i i p p i")
def column_sums(e, rows, vectors, out, x, row):
    """out[c] = the sum of x[:, c] over the rows."""

    def some(e, c):
        [total] = _column_sums(e, rows, lambda r: e.load(x, e.b.add(e.b.mul(r, row), c)))
        e.store(total, out, c)

    _each_column(e, vectors, some)


@emitted("i i p p p i")
def column_dots(e, rows, vectors, out, x, y, row):
    """out[c] = the sum of x[:, c] * y[:, c] over the rows."""

    def some(e, c):
        at = lambda r: e.b.add(e.b.mul(r, row), c)  # noqa: E731
        [total] = _column_sums(e, rows, lambda r: e.load(x, at(r)) * e.load(y, at(r)))
        e.store(total, out, c)

    _each_column(e, vectors, some)


@emitted("i i p p p i p i p")
def batch_norm_backward(e, rows, vectors, delta, grad, hat, row, stat, stat_row, gain):
    """delta = gain inverse (grad - mean(grad) - hat mean(grad hat)); hat *= grad, for the gain."""

    def body(e, r, c):
        at = e.b.add(e.b.mul(r, row), c)
        inverse, mean, slope = (
            e.load(stat, e.b.add(e.b.mul(stat_row, e.int(k)), c))
            for k in (codes.N_INVERSE, codes.N_SUM, codes.N_PRODUCT)
        )
        g, value = e.load(grad, at), e.load(hat, at)
        e.store((g - mean - value * slope) * (inverse * e.load(gain, c)), delta, at)
        e.store(value * g, hat, at)

    each_vector(e, 2, rows, vectors, ir.Constant(I1, 0), body)


@emitted("i i p i p i")
def track(e, rows, vectors, running, running_row, stat, stat_row):
    """running += MOMENTUM * (the batch's - running), for mean and unbiased variance."""
    count = e.splat(e.b.sitofp(rows, e.real))
    unbiased = count / (count - 1.0)
    with e.loop(vectors) as v:
        c = e.b.mul(v, e.int(e.lanes))
        for k, factor in ((codes.N_MEAN, None), (codes.N_VARIANCE, unbiased)):
            new = e.load(stat, e.b.add(e.b.mul(stat_row, e.int(k)), c))
            new = new if factor is None else new * factor
            at = e.b.add(e.b.mul(running_row, e.int(k)), c)
            old = e.load(running, at)
            e.store(e.fma(new - old, codes.MOMENTUM, old), running, at)


@jit
def batch_statistics(params, work, this, batch, live, sync, thread, threads):
    """Mean and 1/deviation of every column: the batch's, all threads together, or the running ones."""
    ld = get(this, L_LDA)
    first, last = share_of(whole_vectors(work, get(this, L_FAN_OUT)), thread, threads)
    c = first * lanes_of(work)
    stat = shift(work, get(this, L_STAT) + c)
    barrier(sync, threads)
    if live and get(this, L_FROZEN) == 0:
        column_moments(batch, last - first, shift(work, get(this, L_A) + c), ld, stat, ld)
    else:
        column_inverse(last - first, stat, shift(params, get(this, L_RUNNING) + c), ld, get(this, L_LDW))
    barrier(sync, threads)


@jit
def norm_backward(params, work, this, batch, row, last, sync, thread, threads):
    """L_DELTA from the gradient at the norm's output (L_SLOPE), rows [row, last)."""
    n, ld = get(this, L_FAN_OUT), get(this, L_LDA)
    vectors, stat = whole_vectors(work, n), shift(work, get(this, L_STAT))
    gain = shift(params, get(this, L_W) + (get(this, L_FAN_IN) + 1) * get(this, L_LDW))
    if get(this, L_NORM) == codes.BATCH_NORM and get(this, L_FROZEN) == 0:
        first, end = share_of(vectors, thread, threads)
        c = first * lanes_of(work)
        barrier(sync, threads)
        column_products(batch, end - first, shift(work, get(this, L_SLOPE) + c),
                       shift(work, get(this, L_HAT) + c), ld, shift(stat, c), ld)  # fmt: skip
        barrier(sync, threads)
    if row >= last:
        return
    delta, grad, hat = (
        shift(work, get(this, L_DELTA) + row * ld),
        shift(work, get(this, L_SLOPE) + row * ld),
        shift(work, get(this, L_HAT) + row * ld),
    )
    if get(this, L_NORM) == codes.BATCH_NORM:
        batch_norm_backward(last - row, vectors, delta, grad, hat, ld, stat, ld, gain)
    else:
        layer_norm_backward(last - row, n, delta, grad, hat, ld, shift(stat, row), gain)


@jit
def track_running(params, work, plan, batch, thread, threads):
    """The running statistics of all layers with batch norm move towards the batch's."""
    for index in range(get(plan, P_LAYERS)):
        this = layer(plan, index)
        if get(this, L_NORM) == codes.BATCH_NORM and get(this, L_FROZEN) == 0:
            first, last = share_of(whole_vectors(work, get(this, L_FAN_OUT)), thread, threads)
            c = first * lanes_of(work)
            track(batch, last - first, shift(params, get(this, L_RUNNING) + c), get(this, L_LDW),
                 shift(work, get(this, L_STAT) + c), get(this, L_LDA))  # fmt: skip
