"""Losses with their gradients, and links: rows of outputs in, rows of loss and delta out.

One normalisation, stated once: row r counts with scale[r] (1/B without sample weights), so the sum
of the row losses is the loss of the batch and delta its exact gradient. Columns past n_out read
from padding and write 0.
"""

from math import inf

from .. import codes, formulas
from .simd import I64, Value, emitted


def _columns(e, n_out, body):
    """body(column, mask of the real lanes) for each vector of a row."""
    with e.loop(n_out, e.lanes) as c:
        body(c, e.lanes_below(e.b.sub(n_out, c)))


def _argmax(e, n_out, load, top):
    """Index, as a float in every lane, of the first column that equals top (n_out if none does)."""
    get_, set_ = e.cell(e.splat(e.b.sitofp(n_out, e.real)))

    def body(c, mask):
        number = e.lane_numbers() + e.splat(e.b.sitofp(c, e.real))
        found = Value(e, e.b.and_(mask.ir, (load(c) == top).ir))
        place = e.select(found, number, get_())
        set_(e.select(place < get_(), place, get_()))

    _columns(e, n_out, body)
    return e.fold(get_(), lambda a, b: e.select(a < b, a, b))


def _maximum(e, n_out, load):
    get_, set_ = e.cell(e.constant(-inf))

    def body(c, mask):
        x = e.select(mask, load(c), -inf)
        # unordered: once NaN, always NaN, so a poisoned row cannot look healthy
        keep = e.b.fcmp_unordered(">", x.ir, get_().ir)
        set_(Value(e, e.b.select(keep, x.ir, get_().ir)))

    _columns(e, n_out, body)
    return e.largest(get_())


def _softmax(e, n_out, z, out, store):
    """store(column, mask, exp(z - max)) for each vector; returns (max, sum)."""
    top = _maximum(e, n_out, lambda c: e.load(z, c))
    total, set_total = e.cell(e.constant(0.0))

    def body(c, mask):
        power = e.select(mask, formulas.exp(e, e.load(z, c) - top), 0.0)
        set_total(total() + power)
        store(c, mask, power)

    _columns(e, n_out, body)
    return top, e.sum(total())


@emitted("i i p p p p p", returns="i")
def loss_row(e, code, n_out, z, t, delta, loss, scale):
    """loss[0] = scale loss(z, t) and delta = its gradient, for one row; returns how many are right.

    t: the class as a float, or n_out targets. Right: the largest output is the class (the largest
    target, if soft); for bce_with_logits, each output on its target's side of one half.
    """
    weight = e.splat(e.scalar(scale))
    hits = e.b.alloca(I64)
    e.b.store(e.int(0), hits)
    load_z = lambda c: e.load(z, c)  # noqa: E731
    load_t = lambda c: e.load(t, c)  # noqa: E731

    def right(mask):
        one = e.select(mask, 1.0, 0.0)
        e.b.store(e.b.fptosi(e.first(one), I64), hits)

    def cross_entropy():
        def keep(c, mask, power):
            e.store(power, delta, c)

        top, total = _softmax(e, n_out, z, delta, keep)
        label = e.scalar(t)
        log_total = formulas.log_(e, total)
        target = e.scalar(z, e.b.fptosi(label, I64))
        e.b.store(e.first((log_total + (top - e.splat(target))) * weight), loss)
        right(_argmax(e, n_out, load_z, top) == e.splat(label))
        factor = weight / total

        def finish(c, mask):
            number = e.lane_numbers() + e.splat(e.b.sitofp(c, e.real))
            one = e.select(number == e.splat(label), weight, 0.0)
            e.store(e.load(delta, c) * factor - one, delta, c)

        _columns(e, n_out, finish)

    def soft_cross_entropy():
        top, total = _softmax(e, n_out, z, delta, lambda c, mask, power: e.store(power, delta, c))
        mass, set_mass = e.cell(e.constant(0.0))
        product, set_product = e.cell(e.constant(0.0))

        def gather(c, mask):
            set_mass(mass() + e.select(mask, load_t(c), 0.0))
            set_product(product() + e.select(mask, load_t(c) * (load_z(c) - top), 0.0))

        _columns(e, n_out, gather)
        mass, product = e.sum(mass()), e.sum(product())
        e.b.store(e.first((mass * formulas.log_(e, total) - product) * weight), loss)
        best = _argmax(e, n_out, load_t, _maximum(e, n_out, load_t))
        right(_argmax(e, n_out, load_z, top) == best)
        factor = mass / total

        def finish(c, mask):
            d = (e.load(delta, c) * factor - load_t(c)) * weight
            e.store(e.select(mask, d, 0.0), delta, c)

        _columns(e, n_out, finish)

    def elementwise(name, formula):
        total, set_total = e.cell(e.constant(0.0))
        correct, set_correct = e.cell(e.constant(0.0))
        factor = weight / e.splat(e.b.sitofp(n_out, e.real))

        def body(c, mask):
            x, y = load_z(c), load_t(c)
            value, slope = formula(e, x, y)
            set_total(total() + e.select(mask, value, 0.0))
            e.store(e.select(mask, slope * factor, 0.0), delta, c)
            if name == codes.BCE_WITH_LOGITS:
                agree = e.b.not_(e.b.xor((x > 0.0).ir, (y > 0.5).ir))
                set_correct(correct() + e.select(Value(e, e.b.and_(agree, mask.ir)), 1.0, 0.0))

        _columns(e, n_out, body)
        e.b.store(e.first(e.sum(total()) * factor), loss)
        e.b.store(e.b.fptosi(e.first(e.sum(correct())), I64), hits)

    e.switch(
        code,
        {codes.CROSS_ENTROPY: cross_entropy, codes.SOFT_CROSS_ENTROPY: soft_cross_entropy}
        | {n: (lambda n=n, f=f: elementwise(n, f)) for n, f in formulas.ELEMENT_LOSS.items()},
    )
    return e.b.load(hits)


@emitted("i i p p p")
def link_row(e, code, n_out, z, buffer, out):
    """out[:n_out] = the probabilities or values that outputs z stand for; out has no padding.

    softmax for cross_entropy, sigmoid for bce_with_logits, z itself otherwise. buffer: a padded row.
    """

    def softmax():
        _, total = _softmax(e, n_out, z, buffer, lambda c, mask, power: e.store(power, buffer, c))
        _columns(e, n_out, lambda c, m: e.masked_store(e.load(buffer, c) / total, e.at(out, c), m))

    def plain(formula):
        def body(c, mask):
            e.masked_store(formula(e.load(z, c)), e.at(out, c), mask)

        return lambda: _columns(e, n_out, body)

    copy = plain(lambda x: x)
    cases = dict.fromkeys((-1, codes.MSE, codes.MAE, codes.HUBER), copy)
    cases |= {codes.CROSS_ENTROPY: softmax, codes.SOFT_CROSS_ENTROPY: softmax}
    cases |= {codes.BCE_WITH_LOGITS: plain(lambda x: formulas.sigmoid(e, x))}
    e.switch(code, cases)


@emitted("i p p")
def sum_row(e, count, x, out):
    """out[0] = x[0] + ... + x[count - 1]: lane by lane, then the lanes by halves."""
    total, set_total = e.cell(e.constant(0.0))
    _columns(e, count, lambda c, mask: set_total(total() + e.select(mask, e.load(x, c), 0.0)))
    e.b.store(e.first(e.sum(total())), out)


@emitted("i p p")
def square_sum_row(e, count, x, out):
    """out[0] = x[0]**2 + ... + x[count - 1]**2, in the order of sum_row."""
    total, set_total = e.cell(e.constant(0.0))

    def body(c, mask):
        y = e.select(mask, e.load(x, c), 0.0)
        set_total(e.fma(y, y, total()))

    _columns(e, count, body)
    e.b.store(e.first(e.sum(total())), out)
