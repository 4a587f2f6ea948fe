"""Losses, their gradients and links, each written once, for every device and both shapes of vectors.

A loss takes the maths ``m`` and a view ``v`` of some rows of outputs; cpu/views.py has two: one row with
columns as lanes, and as many rows as there are lanes, column after column. To a loss they look alike:

    v.each(body), v.columns(c)      body(c) for every block of columns c; the columns' numbers
    v.z(c), v.t(c), v.label         outputs, targets; the class, where targets are labels
    v.put(c, x)                     the gradient, for a sample of weight 1
    v.keep(c, x), v.kept(c)         anything, in the gradient's place
    v.sums(n, body), v.top(values)  sums of body(c)'s n values over the columns; largest and its column
    v.z_at(number)                  each row's output in column ``number``
    v.outputs, v.scale              columns of a row; weight of each row in the batch's mean
    v.finish(loss), v.right(mask)   a row's loss for weight 1; count the rows that are right
    v.right_each(c, mask)           count the outputs that are right
"""

from . import codes, formulas


def softmax(m, v):
    """Keeps exp(z - max); returns (max, its column, sum of what is kept)."""
    top, place = v.top(v.z)

    def body(c):
        power = formulas.exp(m, v.z(c) - top)
        v.keep(c, power)
        return (power,)

    (total,) = v.sums(1, body)
    return top, place, total


def cross_entropy(m, v):
    top, place, total = softmax(m, v)
    v.finish(formulas.log_(m, total) + (top - v.z_at(v.label)))
    v.right((place == v.label) & (total == total))  # NaN among the outputs: nothing is right
    factor = 1.0 / total

    def finish(c):
        v.put(c, v.kept(c) * factor - m.select(v.columns(c) == v.label, 1.0, 0.0))

    v.each(finish)


def soft_cross_entropy(m, v):
    top, place, total = softmax(m, v)
    mass, product = v.sums(2, lambda c: (v.t(c), v.t(c) * (v.z(c) - top)))
    v.finish(mass * formulas.log_(m, total) - product)
    v.right((place == v.top(v.t)[1]) & (total == total))
    factor = mass / total
    v.each(lambda c: v.put(c, v.kept(c) * factor - v.t(c)))


def _bce(m, z, t):
    e = formulas.exp(m, -m.abs(z))
    p = m.select(z < 0.0, e, 1.0) / (e + 1.0)
    return m.maximum(z, 0.0) - z * t + formulas.log1p_unit(m, e), p - t


def _mse(m, z, t):
    d = z - t
    return d * d, d + d


def _mae(m, z, t):
    d = z - t
    return m.abs(d), m.select(d > 0.0, 1.0, m.select(d < 0.0, -1.0, d * 0.0))


def _huber(m, z, t):
    d = z - t
    size = m.abs(d)
    return (
        m.select(size > 1.0, size - 0.5, 0.5 * d * d),
        m.select(size > 1.0, m.copysign(m.constant(1.0), d), d),
    )


def mean_over_outputs(formula, decides=False):
    """The loss whose outputs are treated alone: formula(m, z, t) -> (loss, d loss / d z).

    decides: outputs above 0 say yes, as targets above one half do.
    """

    def loss(m, v):
        share = 1.0 / v.outputs

        def body(c):
            z, t = v.z(c), v.t(c)
            value, slope = formula(m, z, t)
            v.put(c, slope * share)
            if decides:
                v.right_each(c, ~((z > 0.0) ^ (t > 0.5)))
            return (value,)

        (total,) = v.sums(1, body)
        v.finish(total * share)

    return loss


LOSS = {
    codes.CROSS_ENTROPY: cross_entropy,
    codes.SOFT_CROSS_ENTROPY: soft_cross_entropy,
    codes.BCE_WITH_LOGITS: mean_over_outputs(_bce, decides=True),
    codes.MSE: mean_over_outputs(_mse),
    codes.MAE: mean_over_outputs(_mae),
    codes.HUBER: mean_over_outputs(_huber),
}


def _softmax_link(m, v):
    factor = 1.0 / softmax(m, v)[2]
    v.each(lambda c: v.keep(c, v.kept(c) * factor))


def _each_link(formula):
    return lambda m, v: v.each(lambda c: v.keep(c, formula(m, v.z(c))))


# what outputs stand for, kept in the gradient's place; without a link, themselves
LINK = {
    codes.CROSS_ENTROPY: _softmax_link,
    codes.SOFT_CROSS_ENTROPY: _softmax_link,
    codes.BCE_WITH_LOGITS: _each_link(formulas.sigmoid),
}
