"""Layer norm and batch norm between a hidden layer's product and its activation, forward and backward.

Every sum has one order: over a row lane by lane, then the lanes by halves; over the rows in four chains for
each CHAINED of them.
"""

from llvmlite import ir

from .. import codes
from ..jit import jit
from .dense import each_vector
from .losses import masked_columns
from .plan import header_of, layer_at, share_of, whole_vectors
from .records import Matrix
from .simd import I1, Value, emitted, lanes_of, shift
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


@emitted("i i m p p p p")
def layer_norm(e, rows, n, a, hat, inverse, gain, shift):
    """hat = (a - mean) / sqrt(variance + eps) of each row; a = gain * hat + shift, in place.

    inverse (rows,): 1 / sqrt(variance + eps). The variance is that of the n numbers, over n.
    """
    count = e.splat(e.b.sitofp(n, e.real))

    def some(numbers):
        places = [e.b.mul(r, a.stride) for r in numbers]
        xs, outs = [e.at(a.pointer, at) for at in places], [e.at(hat, at) for at in places]
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


@emitted("i i m p p p p")
def layer_norm_backward(e, rows, n, delta, grad, hat, inverse, gain):
    """delta = (h - mean(h) - hat mean(h hat)) inverse, h = grad * gain; hat *= grad, for the gain.

    grad, hat: laid out as delta.
    """
    count = e.splat(e.b.sitofp(n, e.real))

    def some(numbers):
        places = [e.b.mul(r, delta.stride) for r in numbers]
        outs, gs, xs = ([e.at(p, at) for at in places] for p in (delta.pointer, grad, hat))
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


CHAINED = 4 * codes.LONG  # rows whose sum is of four chains; sums of so many are added then


def _column_sums(e, rows, *terms):
    """Sums over the rows of terms(row), a vector each: four chains, added in one order."""
    wholes = [e.cell(e.constant(-0.0)) for _ in terms]  # what adds to a number, 0 too, without a change
    with e.loop(rows, CHAINED) as begin:
        cells = [[e.cell(e.constant(0.0)) for _ in range(4)] for _ in terms]

        def put_in(r, k, begin=begin, cells=cells):
            for chains, term in zip(cells, terms, strict=True):
                total, set_total = chains[k]
                set_total(total() + term(e.b.add(begin, r)))

        count = e.least(e.b.sub(rows, begin), CHAINED)
        quarter = e.b.and_(count, e.int(-4))
        with e.loop(quarter, 4) as r:
            for k in range(4):
                put_in(e.b.add(r, e.int(k)), k)
        with e.loop(e.b.sub(count, quarter)) as r:
            put_in(e.b.add(quarter, r), 0)
        for c, (whole, set_whole) in zip(cells, wholes, strict=True):
            set_whole(whole() + ((c[0][0]() + c[1][0]()) + (c[2][0]() + c[3][0]())))
    return [whole() for whole, _ in wholes]


@emitted("i i m m")
def column_moments(e, rows, vectors, a, stat):
    """Mean and variance (over ``rows``) of columns of a, and 1 / sqrt(variance + eps): rows N_... of stat."""

    def some(e, c):
        count = e.splat(e.b.sitofp(rows, e.real))
        x = lambda r: e.load(a.pointer, e.b.add(e.b.mul(r, a.stride), c))  # noqa: E731
        [total] = _column_sums(e, rows, x)
        mean = total / count

        def square(r, mean=mean):
            d = x(r) - mean
            return d * d

        [total] = _column_sums(e, rows, square)
        variance = total / count
        inverse = 1.0 / e.sqrt(variance + codes.NORM_EPS)
        for k, value in ((codes.N_MEAN, mean), (codes.N_VARIANCE, variance), (codes.N_INVERSE, inverse)):
            e.store(value, stat.pointer, e.b.add(e.b.mul(stat.stride, e.int(k)), c))

    _each_column(e, vectors, some)


@emitted("i m m")
def column_inverse(e, vectors, stat, running):
    """Rows N_MEAN and N_INVERSE of stat from the running mean and variance; the backward pass's are 0."""
    with e.loop(vectors) as v:
        c = e.b.mul(v, e.int(e.lanes))
        variance = e.load(running.pointer, e.b.add(running.stride, c))
        at = lambda k: e.b.add(e.b.mul(stat.stride, e.int(k)), c)  # noqa: E731
        e.store(e.load(running.pointer, c), stat.pointer, at(codes.N_MEAN))
        inverse = 1.0 / e.sqrt(variance + codes.NORM_EPS)
        e.store(inverse, stat.pointer, at(codes.N_INVERSE))
        for k in (codes.N_SUM, codes.N_PRODUCT):  # what is constant has no gradient
            e.store(e.constant(0.0), stat.pointer, at(k))


@emitted("i i m p m p p")
def batch_norm(e, rows, vectors, a, hat, stat, gain, shift):
    """hat = (a - mean) * inverse by column; a = gain * hat + shift, in place. hat: laid out as a."""

    def body(e, r, c):
        at = e.b.add(e.b.mul(r, a.stride), c)
        mean, inverse = (
            e.load(stat.pointer, e.b.add(e.b.mul(stat.stride, e.int(k)), c))
            for k in (codes.N_MEAN, codes.N_INVERSE)
        )
        value = (e.load(a.pointer, at) - mean) * inverse
        e.store(value, hat, at)
        e.store(e.fma(value, e.load(gain, c), e.load(shift, c)), a.pointer, at)

    each_vector(e, 2, rows, vectors, ir.Constant(I1, 0), body)


@emitted("i i m p m")
def column_products(e, rows, vectors, grad, hat, stat):
    """Rows N_SUM and N_PRODUCT of stat: means over the rows of grad and of grad * hat, laid out alike."""

    def some(e, c):
        count = e.splat(e.b.sitofp(rows, e.real))
        at = lambda r: e.b.add(e.b.mul(r, grad.stride), c)  # noqa: E731
        g = lambda r: e.load(grad.pointer, at(r))  # noqa: E731
        one, two = _column_sums(e, rows, g, lambda r: g(r) * e.load(hat, at(r)))
        for k, value in ((codes.N_SUM, one), (codes.N_PRODUCT, two)):
            e.store(value / count, stat.pointer, e.b.add(e.b.mul(stat.stride, e.int(k)), c))

    _each_column(e, vectors, some)


@emitted("i i p m")
def column_sums(e, rows, vectors, out, x):
    """out[c] = the sum of x[:, c] over the rows."""

    def some(e, c):
        [total] = _column_sums(e, rows, lambda r: e.load(x.pointer, e.b.add(e.b.mul(r, x.stride), c)))
        e.store(total, out, c)

    _each_column(e, vectors, some)


@emitted("i i p m p")
def column_dots(e, rows, vectors, out, x, y):
    """out[c] = the sum of x[:, c] * y[:, c] over the rows; y: laid out as x."""

    def some(e, c):
        at = lambda r: e.b.add(e.b.mul(r, x.stride), c)  # noqa: E731
        [total] = _column_sums(e, rows, lambda r: e.load(x.pointer, at(r)) * e.load(y, at(r)))
        e.store(total, out, c)

    _each_column(e, vectors, some)


@emitted("i i m p p m p")
def batch_norm_backward(e, rows, vectors, delta, grad, hat, stat, gain):
    """delta = gain inverse (grad - mean(grad) - hat mean(grad hat)); hat *= grad, for the gain.

    grad, hat: laid out as delta.
    """

    def body(e, r, c):
        at = e.b.add(e.b.mul(r, delta.stride), c)
        inverse, mean, slope = (
            e.load(stat.pointer, e.b.add(e.b.mul(stat.stride, e.int(k)), c))
            for k in (codes.N_INVERSE, codes.N_SUM, codes.N_PRODUCT)
        )
        g, value = e.load(grad, at), e.load(hat, at)
        e.store((g - mean - value * slope) * (inverse * e.load(gain, c)), delta.pointer, at)
        e.store(value * g, hat, at)

    each_vector(e, 2, rows, vectors, ir.Constant(I1, 0), body)


@emitted("i i m m")
def track(e, rows, vectors, running, stat):
    """running += MOMENTUM * (the batch's - running), for mean and unbiased variance."""
    count = e.splat(e.b.sitofp(rows, e.real))
    unbiased = count / (count - 1.0)
    with e.loop(vectors) as v:
        c = e.b.mul(v, e.int(e.lanes))
        for k, factor in ((codes.N_MEAN, None), (codes.N_VARIANCE, unbiased)):
            new = e.load(stat.pointer, e.b.add(e.b.mul(stat.stride, e.int(k)), c))
            new = new if factor is None else new * factor
            at = e.b.add(e.b.mul(running.stride, e.int(k)), c)
            old = e.load(running.pointer, at)
            e.store(e.fma(new - old, codes.MOMENTUM, old), running.pointer, at)


@jit
def own_columns(work, this, crew):
    """(first column, vectors) of a layer's outputs that this thread of the crew sees to."""
    own = share_of(whole_vectors(work, this.fan_out), crew.thread, crew.threads)
    return own.begin * lanes_of(work), own.end - own.begin


@jit
def batch_statistics(net, this, batch, live, crew):
    """Mean and 1/deviation of every column: the batch's, all threads together, or the running ones."""
    params, work = net.params, net.work
    c, vectors = own_columns(work, this, crew)
    stat = Matrix(shift(work, this.stat + c), this.lda)
    barrier(crew.sync, crew.threads)
    if live and this.frozen == 0:
        column_moments(batch, vectors, Matrix(shift(work, this.a + c), this.lda), stat)
    else:
        column_inverse(vectors, stat, Matrix(shift(params, this.running + c), this.ldw))
    barrier(crew.sync, crew.threads)


@jit
def norm_backward(net, this, batch, rows, crew):
    """The gradient at the product from that at the norm's output, which lies where slopes do; some rows."""
    work, ld = net.work, this.lda
    vectors, stat = whole_vectors(work, this.fan_out), shift(work, this.stat)
    gain = shift(net.params, this.w + (this.fan_in + 1) * this.ldw)
    if this.norm == codes.BATCH_NORM and this.frozen == 0:
        c, count = own_columns(work, this, crew)
        barrier(crew.sync, crew.threads)
        column_products(batch, count, Matrix(shift(work, this.slope + c), ld), shift(work, this.hat + c),
                        Matrix(shift(stat, c), ld))  # fmt: skip
        barrier(crew.sync, crew.threads)
    count, at = rows.end - rows.begin, rows.begin * ld
    if count <= 0:
        return
    delta = Matrix(shift(work, this.delta + at), ld)
    gradient, hat = shift(work, this.slope + at), shift(work, this.hat + at)
    if this.norm == codes.BATCH_NORM:
        batch_norm_backward(count, vectors, delta, gradient, hat, Matrix(stat, ld), gain)
    else:
        layer_norm_backward(count, this.fan_out, delta, gradient, hat, shift(stat, rows.begin), gain)


@jit
def track_running(net, batch, crew):
    """The running statistics of all layers with batch norm move towards the batch's."""
    for index in range(header_of(net.plan).layers):
        this = layer_at(net.plan, index)
        if this.norm == codes.BATCH_NORM and this.frozen == 0:
            c, vectors = own_columns(net.work, this, crew)
            track(batch, vectors, Matrix(shift(net.params, this.running + c), this.ldw),
                  Matrix(shift(net.work, this.stat + c), this.lda))  # fmt: skip
