"""Losses, their gradients and links, each written once, for every device and both shapes of vectors.

A loss takes the maths ``m`` and a view ``v`` of some rows of outputs; cpu/views.py has two: one row with
columns as lanes, and as many rows as there are lanes, column after column. To a loss they look alike:

    v.each(body), v.columns(c)      body(c) for every block of columns c; the columns' numbers
    v.z(c), v.t(c), v.label         outputs, targets; the class, where targets are labels
    v.put(c, x)                     the gradient, for a sample of weight 1
    v.set(c, x)                     the gradient itself, whatever the sample's weight
    v.keep(c, x), v.kept(c)         anything, in the gradient's place
    v.cumulate(backwards)           sums of what is kept over runs of columns, which begin where v.vector < 0
    v.sums(n, body), v.top(values)  sums of body(c)'s n values over the columns; largest and its column
    v.z_at(n), v.vector_at(n)       each row's number in column n of z, of the loss's vector
    v.number(i), v.vector(c)        the loss's own numbers: hyperparameters, and one for each output
    v.outputs                       columns of a row
    v.halves(body, *more)           sum of body(z, z of the other half, t, *more(c))'s first; puts its slopes
    v.weight(c)                     an output's weight, over the mean of its row's: losses of WEIGHED alone
    v.finish(loss), v.right(mask)   a row's loss for weight 1; count the rows that are right
    v.right_each(c, mask)           count the outputs that are right
"""

import functools

from . import codes, formulas

TINY = 1e-37  # a normal number in float32


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


def _cross_entropy_with(m, v, wanted):
    """sum of wanted(c) (log sum exp(z) - z_c); returns (the largest output's column, the sum of exp)."""
    top, place, total = softmax(m, v)
    mass, product = v.sums(2, lambda c: (wanted(c), wanted(c) * (v.z(c) - top)))
    v.finish(mass * formulas.log_(m, total) - product)
    factor = mass / total
    v.each(lambda c: v.put(c, v.kept(c) * factor - wanted(c)))
    return place, total


def soft_cross_entropy(m, v):
    place, total = _cross_entropy_with(m, v, v.t)
    v.right((place == v.top(v.t)[1]) & (total == total))


def smooth_cross_entropy(m, v):
    """number(0) = 1 - smoothing, number(1) = smoothing / outputs, vector: class weights.

    The sample's weight is its class's already, and so is the batch's mass: what is smoothed over the
    other classes is divided by it. A class of weight 0 has no samples.
    """
    label = v.label
    share = v.number(1) / v.vector_at(label)
    place, total = _cross_entropy_with(
        m, v, lambda c: m.fma(share, v.vector(c), m.select(v.columns(c) == label, v.number(0), 0.0))
    )
    v.right((place == label) & (total == total))


def smooth_soft_cross_entropy(m, v):
    place, total = _cross_entropy_with(m, v, lambda c: v.vector(c) * m.fma(v.number(0), v.t(c), v.number(1)))
    v.right((place == v.top(v.t)[1]) & (total == total))


def label_focal(m, v):
    """-(1 - p)^gamma log p of the class; number(0) = gamma."""
    _, place, total = softmax(m, v)
    top = v.top(v.z)[0]
    (others,) = v.sums(1, lambda c: (m.select(v.columns(c) == v.label, 0.0, v.kept(c)),))
    short = v.z_at(v.label) - top
    surprise = formulas.log_(m, total) - short  # -log p
    p, rest = formulas.exp(m, short) / total, others / total
    least = m.maximum(rest, TINY)
    power = formulas.exp(m, v.number(0) * formulas.log_(m, least))
    v.finish(power * surprise)
    v.right((place == v.label) & (total == total))
    slope = power * (v.number(0) * p * surprise / least + 1.0)
    factor = 1.0 / total
    v.each(lambda c: v.put(c, slope * (v.kept(c) * factor - m.select(v.columns(c) == v.label, 1.0, 0.0))))


def label_hinge(m, v):
    """mean over the other classes of max(0, margin - z_label + z_c), as torch's multi_margin_loss."""
    place, label, base = v.top(v.z)[1], v.label, v.number(0) - v.z_at(v.label)
    share = 1.0 / v.outputs

    def body(c):
        short = m.select(v.columns(c) == label, 0.0, base + v.z(c))
        return m.select(short < 0.0, 0.0, short), m.select(short > 0.0, 1.0, short * 0.0)

    total, count = v.sums(2, body)

    def finish(c):
        v.put(c, m.select(v.columns(c) == label, -count, body(c)[1]) * share)

    v.finish(total * share)
    v.right((place == label) & (total == total))
    v.each(finish)


def cosine(m, v):
    """1 - cos(z, t), squares of lengths raised by 1e-12 as in torch's cosine_embedding_loss."""
    zz, tt, zt = v.sums(3, lambda c: (v.z(c) * v.z(c), v.t(c) * v.t(c), v.z(c) * v.t(c)))
    zz, tt = zz + 1e-12, tt + 1e-12
    inverse = 1.0 / (m.sqrt(zz) * m.sqrt(tt))
    similarity = zt * inverse
    v.finish(1.0 - similarity)
    pull = similarity / zz
    v.each(lambda c: v.put(c, v.z(c) * pull - v.t(c) * inverse))


def _counted(m, weight, *values):
    """The values times the weight; where that is 0 they count for nothing, whatever they are."""
    return tuple(m.select(weight > 0.0, x * weight, 0.0) for x in values)


def gaussian_nll(m, v, weighed=False):
    """mean of (s + (z - t)^2 exp(-s)) / 2; s, the second half of the outputs, is the log of the variance.

    number(0): the least s that counts; below, loss and slope are what they are there.
    """
    share = 2.0 / v.outputs

    def body(z, log_variance, t, *weight):
        d, s = z - t, m.maximum(log_variance, v.number(0))
        precise = d * formulas.exp(m, -s)
        square = d * precise
        found = (s + square) * 0.5, precise * share, (1.0 - square) * 0.5 * share
        return _counted(m, *weight, *found) if weight else found

    v.finish(v.halves(body, *((v.weight,) if weighed else ())) * share)


def _bce(m, z, t):
    e = formulas.exp(m, -m.abs(z))
    p = m.select(z < 0.0, e, 1.0) / (e + 1.0)
    return m.maximum(z, 0.0) - z * t + formulas.log1p_unit(m, e), p - t


def _bce_weighted(m, z, t, weight):
    """The positive side counts ``weight`` times: torch's pos_weight."""
    e = formulas.exp(m, -m.abs(z))
    both = m.fma(weight - 1.0, t, 1.0)
    miss = m.select(z < 0.0, 1.0, e) / (e + 1.0)  # sigmoid(-z)
    loss = m.fma(both, formulas.log1p_unit(m, e) + m.maximum(-z, 0.0), (1.0 - t) * z)
    return loss, m.fma(-both, miss, 1.0 - t)


def _focal(m, z, t, gamma, positive, negative):
    """-weight (1 - p)^gamma log p, p the probability of the side that t (0 or 1) is on."""
    s = m.select(t > 0.5, z, -z)
    e = formulas.exp(m, -m.abs(s))
    log1p = formulas.log1p_unit(m, e)
    surprise = m.maximum(-s, 0.0) + log1p  # -log p
    inverse = 1.0 / (e + 1.0)
    p, rest = m.select(s < 0.0, e, 1.0) * inverse, m.select(s < 0.0, 1.0, e) * inverse
    power = formulas.exp(m, -gamma * (m.maximum(s, 0.0) + log1p)) * m.select(t > 0.5, positive, negative)
    slope = power * m.fma(gamma * p, surprise, rest)
    return power * surprise, m.select(t > 0.5, -slope, slope)


def _mse(m, z, t):
    d = z - t
    return d * d, d + d


def _mae(m, z, t):
    d = z - t
    return m.abs(d), m.select(d > 0.0, 1.0, m.select(d < 0.0, -1.0, d * 0.0))


def _huber(m, z, t, delta):
    d = z - t
    size = m.abs(d)
    return (
        m.select(size > delta, delta * (size - 0.5 * delta), 0.5 * d * d),
        m.select(size > delta, m.copysign(delta, d), d),
    )


def _log_cosh(m, z, t):
    """log(cosh(d)): below 1 as log1p of cosh(d) - 1 = u^2 / (2 (1 - u)), u = 1 - exp(-|d|)."""
    d = z - t
    size = m.abs(d)
    u = -formulas.expm1_negative(m, -size)
    e = 1.0 - u
    near, square = size < 1.0, e * e
    x = m.select(near, u * u / (e + e), square)
    loss = formulas.log1p_unit(m, x) + m.select(near, 0.0, size - formulas.LN2)
    return loss, m.copysign(u * (e + 1.0) / (square + 1.0), d)


def _quantile(m, z, t, q):
    """q d where d = t - z > 0, else (q - 1) d: Koenker and Bassett's check function."""
    d = t - z
    return m.select(d > 0.0, q * d, (q - 1.0) * d), m.select(d > 0.0, -q, m.select(d < 0.0, 1.0 - q, d * 0.0))


def _poisson_nll(m, z, t):
    rate = formulas.exp(m, z)
    return rate - t * z, rate - t


def _gamma_nll(m, z, t):
    ratio = t * formulas.exp(m, -z)
    return z + ratio, 1.0 - ratio


def _hinge(m, z, t, margin):
    side = m.select(t > 0.0, 1.0, m.constant(-1.0))
    short = margin - side * z
    return m.select(short < 0.0, 0.0, short), m.select(short > 0.0, -side, short * 0.0)


def ordered(m, v):
    """Keeps quantiles that do not cross: the lowest z + number(1), the others number(0) softplus(z) higher.

    vector: the quantile's level, below 0 for the lowest of a target.
    """

    def body(c):
        z = v.z(c)
        rise = v.number(0) * (m.maximum(z, 0.0) + formulas.log1p_unit(m, formulas.exp(m, -m.abs(z))))
        v.keep(c, m.select(v.vector(c) < 0.0, z + v.number(1), rise))

    v.each(body)
    v.cumulate()


def _before_ordered(m, v):
    """The gradient of ordered quantiles, in its place, becomes that of the outputs."""
    v.cumulate(backwards=True)

    def body(c):
        x = v.kept(c)
        slope = m.select(v.vector(c) < 0.0, 1.0, v.number(0) * formulas.sigmoid(m, v.z(c)))
        v.set(c, m.select(x == 0.0, 0.0, x * slope))  # 0 also where a row counts for nothing, whatever its z

    v.each(body)


def ordered_quantile(m, v, weighed=False):
    share = 1.0 / v.outputs
    ordered(m, v)

    def body(c):
        found = _quantile(m, v.kept(c), v.t(c), m.abs(v.vector(c)))
        value, slope = _counted(m, v.weight(c), *found) if weighed else found
        v.put(c, slope * share)
        return (value,)

    (total,) = v.sums(1, body)
    v.finish(total * share)
    _before_ordered(m, v)


def mean_over_outputs(formula, given=lambda v, c: (), yes=None, weighed=False):
    """The loss whose outputs are treated alone: formula(m, z, t, *given) -> (loss, d loss / d z).

    given(v, c): the loss's own numbers. yes: targets above it say yes, as outputs above 0 do. weighed:
    whether outputs have weights of their own.
    """

    def loss(m, v):
        share = 1.0 / v.outputs

        def body(c):
            z, t = v.z(c), v.t(c)
            value, slope = formula(m, z, t, *given(v, c))
            if weighed:
                value, slope = _counted(m, v.weight(c), value, slope)
            v.put(c, slope * share)
            if yes is not None:
                right = ~((z > 0.0) ^ (t > yes)) & (z == z)
                v.right_each(c, right & (v.weight(c) > 0.0) if weighed else right)
            return (value,)

        (total,) = v.sums(1, body)
        v.finish(total * share)

    return loss


def _numbers(count):
    return lambda v, c: [v.number(i) for i in range(count)]


def _vector(v, c):
    return (v.vector(c),)


# losses whose outputs are treated alone: what ``mean_over_outputs`` takes
BY_OUTPUT = {
    codes.BCE_WITH_LOGITS: {"formula": _bce, "yes": 0.5},
    codes.WEIGHTED_BCE: {"formula": _bce_weighted, "given": _vector, "yes": 0.5},
    codes.FOCAL: {"formula": _focal, "given": _numbers(3), "yes": 0.5},
    codes.MSE: {"formula": _mse},
    codes.MAE: {"formula": _mae},
    codes.HUBER: {"formula": _huber, "given": _numbers(1)},
    codes.LOG_COSH: {"formula": _log_cosh},
    codes.QUANTILE: {"formula": _quantile, "given": _vector},
    codes.POISSON_NLL: {"formula": _poisson_nll},
    codes.GAMMA_NLL: {"formula": _gamma_nll},
    codes.HINGE: {"formula": _hinge, "given": _numbers(1), "yes": 0.0},
}
LOSS = {
    codes.CROSS_ENTROPY: cross_entropy,
    codes.SOFT_CROSS_ENTROPY: soft_cross_entropy,
    codes.SMOOTH_CROSS_ENTROPY: smooth_cross_entropy,
    codes.SMOOTH_SOFT_CROSS_ENTROPY: smooth_soft_cross_entropy,
    codes.LABEL_FOCAL: label_focal,
    codes.GAUSSIAN_NLL: gaussian_nll,
    codes.LABEL_HINGE: label_hinge,
    codes.COSINE: cosine,
    codes.ORDERED_QUANTILE: ordered_quantile,
} | {code: mean_over_outputs(**parts) for code, parts in BY_OUTPUT.items()}
# with a weight for each output: no part of the program, compiled when one is asked for, see custom.loss_of
WEIGHED = {
    code: functools.partial(loss, weighed=True)
    for code, loss in ((codes.GAUSSIAN_NLL, gaussian_nll), (codes.ORDERED_QUANTILE, ordered_quantile))
} | {code: mean_over_outputs(**parts, weighed=True) for code, parts in BY_OUTPUT.items()}


def _softmax_link(m, v):
    factor = 1.0 / softmax(m, v)[2]
    v.each(lambda c: v.keep(c, v.kept(c) * factor))


def _gaussian_link(m, v):
    """The mean as it is, and the variance."""

    def body(c):
        variance = formulas.exp(m, m.maximum(v.z(c), v.number(0)))
        v.keep(c, m.select(v.columns(c) < v.outputs * 0.5, v.z(c), variance))

    v.each(body)


def _each_link(formula):
    return lambda m, v: v.each(lambda c: v.keep(c, formula(m, v.z(c))))


_SOFTMAX = (
    codes.CROSS_ENTROPY,
    codes.SOFT_CROSS_ENTROPY,
    codes.SMOOTH_CROSS_ENTROPY,
    codes.SMOOTH_SOFT_CROSS_ENTROPY,
    codes.LABEL_FOCAL,
)
# what outputs stand for, kept in the gradient's place; without a link, themselves
LINK = {
    **dict.fromkeys(_SOFTMAX, _softmax_link),
    **dict.fromkeys((codes.BCE_WITH_LOGITS, codes.WEIGHTED_BCE, codes.FOCAL), _each_link(formulas.sigmoid)),
    **dict.fromkeys((codes.POISSON_NLL, codes.GAMMA_NLL), _each_link(formulas.exp)),
    codes.GAUSSIAN_NLL: _gaussian_link,
    codes.ORDERED_QUANTILE: ordered,
}


# --- gradients that are given: of predictions, for what is in the place of targets


def _pull_softmax(m, v):
    factor = 1.0 / softmax(m, v)[2]
    (mean,) = v.sums(1, lambda c: (v.kept(c) * factor * v.t(c),))
    v.finish(mean)
    v.each(lambda c: v.set(c, v.kept(c) * factor * (v.t(c) - mean)))


def _pull_each(link):
    """link(m, v, c) -> (what the output stands for, its slope)."""

    def pull(m, v):
        def body(c):
            given, (value, slope) = v.t(c), link(m, v, c)
            v.set(c, given * slope)
            return (given * value,)

        (total,) = v.sums(1, body)
        v.finish(total)

    return pull


def _pull_ordered(m, v):
    ordered(m, v)
    (total,) = v.sums(1, lambda c: (v.kept(c) * v.t(c),))
    v.finish(total)
    v.each(lambda c: v.keep(c, v.t(c)))
    _before_ordered(m, v)


def _identity_slope(m, v, c):
    return v.z(c), m.constant(1.0)


def _exp_slope(m, v, c):
    power = formulas.exp(m, v.z(c))
    return power, power


def _sigmoid_slope(m, v, c):
    value = formulas.sigmoid(m, v.z(c))
    return value, value * formulas.sigmoid(m, -v.z(c))


def _gaussian_slope(m, v, c):
    z, is_mean = v.z(c), v.columns(c) < v.outputs * 0.5
    variance = formulas.exp(m, m.maximum(z, v.number(0)))
    slope = m.select(z > v.number(0), variance, 0.0)
    return m.select(is_mean, z, variance), m.select(is_mean, 1.0, slope)


# by the code of a loss that has the link: the row's "loss" is the sum of given gradients times predictions
PULL = {
    codes.MSE: _pull_each(_identity_slope),
    **dict.fromkeys(_SOFTMAX, _pull_softmax),
    **dict.fromkeys((codes.BCE_WITH_LOGITS, codes.WEIGHTED_BCE, codes.FOCAL), _pull_each(_sigmoid_slope)),
    **dict.fromkeys((codes.POISSON_NLL, codes.GAMMA_NLL), _pull_each(_exp_slope)),
    codes.GAUSSIAN_NLL: _pull_each(_gaussian_slope),
    codes.ORDERED_QUANTILE: _pull_ordered,
}
