"""Activations, their derivatives and updates: each formula written once, for every device.

Losses are in loss_formulas.py.

A formula takes the maths ``m`` of its device and values; it uses only operators on values and
``m.fma, select, minimum, maximum, abs, sqrt, round, pow2, split, is64``. On the CPU the values are
LLVM vectors under construction (cpu/simd.py): calling a formula emits its instructions.

The elementary functions are polynomials after an exact reduction; the coefficients are Chebyshev
fits made with mpmath (docs/maths.md has the script and the error of each).
"""

from math import inf, log, pi, sqrt

from . import codes

LN2 = log(2.0)
LARGEST_ROOT = {False: 2.0**64 - 2.0**40, True: 2.0**512 - 2.0**459}  # the largest float that has a square

# (expm1(r) - r) / r**2 on |r| <= ln(2) / 2
EXPM1 = {
    False: (0.5, 0.166666666825343561, 0.041666456809677876, 0.00833331002422529243,
            0.00139345419282702645, 0.000198919813139776902),
    True: (0.5, 0.166666666666666714, 0.0416666666666666701, 0.0083333333333255447,
           0.00138888888888833267, 0.000198412698768643549, 0.0000248015873270071867,
           2.75572528335169097e-6, 2.75572718102197996e-7, 2.51062747335732947e-8,
           2.09154422977801152e-9),
}  # fmt: skip
# (t + c) exp(t*t/2) erfc(t/sqrt(2))/2 as a polynomial in (t - c)/(t + c), t >= 0
TAIL_CENTRE = {False: 3.0, True: 4.0}
TAIL = {
    False: (0.72908369069624986858, -0.50933198954028234501, 0.23001767766349003359,
            -0.047262745275900215694, -0.010462293756020216735, 0.0069698131313015088302,
            0.0010241357110211652075, -0.0010342220593040599595, -0.00024458266635030283877,
            0.0001331259087505261264, 0.000055355966295437997518),
    True: (0.75528513041575149292, -0.60789664197189208778, 0.38713740074221465571,
           -0.18652185795965937075, 0.060396574890930215634, -0.0075401889666598927791,
           -0.0034796923672520808275, 0.0016308184566235732889, 0.00013334431074265560254,
           -0.00023109492751462496781, -1.9082467362071697317e-6, 0.000035144649514290317941,
           7.1661365315223444061e-7, -5.9200637891099434206e-6, -6.2954189374551879471e-7,
           1.0213461276683074262e-6, 2.7150648766883063141e-7, -1.5472200834488719832e-7,
           -8.5040534591566547925e-8, 1.3120878268311951344e-8, 1.9346558330767472952e-8,
           1.9643276806219771225e-9, -2.4165480803189246278e-9, -7.2685534772106090456e-10,
           -1.428076375615486078e-11),
}  # fmt: skip
# (sin(r) / r - 1) / r**2 in r**2, |r| <= pi / 2
SINE = {
    False: (-0.1666666666374001, 0.008333332746000505, -0.00019841081060563884, 2.7536049708553138e-06,
            -2.407065765302617e-08),
    True: (-0.16666666666666666, 0.008333333333333333, -0.00019841269841269803,
           2.7557319223970366e-06, -2.5052108382236485e-08, 1.6059043464982344e-10,
           -7.647138381112494e-13, 2.8104490805984874e-15, -8.00395186685969e-18),
}  # fmt: skip
# log(1 + f), s = f / (2 + f): the odd series of 2 artanh(s) in s*s, as in FreeBSD's e_log.c, e_logf.c
LOG = {
    False: (0.66666662693, 0.40000972152, 0.28498786688, 0.24279078841),
    True: (6.666666666666735130e-01, 3.999999999940941908e-01, 2.857142874366239149e-01,
           2.222219843214978396e-01, 1.818357216161805012e-01, 1.531383769920937332e-01,
           1.479819860511658591e-01),
}  # fmt: skip


def _horner(m, x, coefficients):
    total = m.constant(coefficients[-1])
    for c in reversed(coefficients[:-1]):
        total = m.fma(total, x, c)
    return total


def _reduce(m, x):
    """x = n ln(2) + r, |r| <= ln(2)/2: returns (n, expm1(r))."""
    n = m.round(x * (1 / LN2))
    # ln(2) in two parts, the first short enough for an exact product (Cody and Waite)
    high, low = (
        (0.693147180369123816490, 1.90821492927058770002e-10)
        if m.is64
        else (0.693359375, -2.12194440054690583e-4)
    )
    r = m.fma(n, -low, m.fma(n, -high, x))
    return n, m.fma(r * r, _horner(m, r, EXPM1[m.is64]), r)


def exp(m, x):
    """exp(x); 0 below the smallest normal result, inf above the largest, NaN kept."""
    low, high = (-708.39, 709.782712893384) if m.is64 else (-87.336, 88.7228317)
    n, e = _reduce(m, m.clip(x, low, high))
    half = m.round(n * 0.5)  # 2**128 is no float: two factors
    y = m.fma(e, m.pow2(half), m.pow2(half)) * m.pow2(n - half)
    return m.select(x < low, 0.0, m.select(x > high, inf, y))


def expm1_negative(m, x):
    """exp(x) - 1 for x <= 0, accurate near 0."""
    n, e = _reduce(m, m.maximum(x, -40.0 if m.is64 else -20.0))
    scale = m.pow2(n)
    return m.fma(scale, e, scale - 1.0)


def log_(m, x):
    """log(x) for normal numbers x > 0; inf and NaN kept."""
    mantissa, exponent = m.split(x)  # mantissa in [sqrt(1/2), sqrt(2))
    f = mantissa - 1.0
    s = f / (f + 2.0)
    z = s * s
    tail = z * _horner(m, z, LOG[m.is64])
    half = 0.5 * f * f
    high, low = (
        (6.93147180369123816490e-01, 1.90821492927058770002e-10)
        if m.is64
        else (6.9313812256e-01, 9.0580006145e-06)
    )
    y = m.fma(exponent, high, f - (half - m.fma(s, half + tail, exponent * low)))
    return m.select(x < inf, y, x)


def log1p_unit(m, x):
    """log(1 + x) for 0 <= x <= 1: log of the rounded sum plus what the rounding lost."""
    u = x + 1.0
    return log_(m, u) + (x - (u - 1.0)) / u


def sigmoid(m, x):
    e = exp(m, -m.abs(x))
    return m.select(x < 0.0, e, 1.0) / (e + 1.0)


def tanh(m, x):
    """-expm1(-2|x|) / (2 + expm1(-2|x|)), with the sign of x."""
    e = expm1_negative(m, m.abs(x) * -2.0)
    return m.copysign(e / (e + 2.0), x)


def normal(m, x):
    """(cdf, density) of the standard normal distribution at x.

    cdf(-t) = exp(-t*t/2) R(t): the square is taken with its rounding error, so the far tail keeps
    its relative accuracy (W. J. Cody, Math. Comp. 23, 1969, does the same for erfc).
    """
    t = m.minimum(m.abs(x), 38.0 if m.is64 else 14.0)
    square = t * t
    lost = m.fma(t, t, -square)
    e = exp(m, square * -0.5)
    e = m.fma(e * lost, -0.5, e)
    centre = TAIL_CENTRE[m.is64]
    inverse = 1.0 / (t + centre)
    tail = e * (_horner(m, (t - centre) * inverse, TAIL[m.is64]) * inverse)
    # min() above drops NaN; adding x * 0 would turn inf into NaN, so only NaN is put back
    cdf = m.select(x < 0.0, tail, 1.0 - tail)
    return m.select(x == x, cdf, x), e * (1 / sqrt(2 * pi))


def _gelu(m, z):
    cdf, density = normal(m, z)
    return z * cdf, m.fma(z, density, cdf)


def _silu(m, z):
    s = sigmoid(m, z)
    a = z * s
    return a, m.fma(a, 1.0 - s, s)


def _gelu_tanh(m, z):
    """z sigmoid(2 u), u = sqrt(2 / pi) (z + 0.044715 z^3): (1 + tanh u) / 2 without its cancellation."""
    x = m.clip(z, -40.0, 40.0)  # sigmoid is 0 or 1 there already
    scale = 2 * sqrt(2 / pi)
    square = x * x
    s = sigmoid(m, x * m.fma(square, 0.044715 * scale, scale))
    a = z * s
    return a, m.fma(a * (1.0 - s), m.fma(square, 3 * 0.044715 * scale, scale), s)


def _mish(m, z):
    """z tanh(softplus(z)) = z n / (n + 2), n = e (e + 2), e = exp(z)."""
    low, high = (-720.0, 40.0) if m.is64 else (-90.0, 20.0)  # the slope is 0 or 1 there already
    x = m.clip(z, low, high)
    e = exp(m, x)
    n = e * (e + 2.0)
    inverse = 1.0 / (n + 2.0)
    share = n * inverse
    return z * share, m.fma(x * 4.0 * inverse, e * (e + 1.0) * inverse, share)


def _hardswish(m, z):
    """At the kinks -3 and 3 the slope is that outside, 0 and 1, as torch's."""
    a = z * (m.clip(z + 3.0, 0.0, 6.0) * (1 / 6))
    inside = 3.0 - (2.0**-51 if m.is64 else 2.0**-22)  # the number before 3
    return a, m.select(z < -inside, 0.0, m.select(z > inside, 1.0, m.fma(z, 1 / 3, 0.5)))


def _softplus(m, z):
    return m.maximum(z, 0.0) + log1p_unit(m, exp(m, -m.abs(z)))


# pi in four parts, the first three short enough for exact products (Cody and Waite)
PI = {
    False: (3.140625, 0.0009675025939941406, 1.5099067240953445e-07, 5.126688136514179e-12),
    True: (3.141592651605606, 1.9841871479187034e-09, 1.144237741932715e-17, 3.2892513872648515e-26),
}


def _sine_part(m, r):
    """sin(r) for 0 <= r <= pi / 2."""
    square = r * r
    return m.fma(r * square, _horner(m, square, SINE[m.is64]), r)


def sine(m, z):
    """(sin, cos): z = n pi + r; cos r = sin(pi / 2 - |r|). Good to |z| = 1e4 in float32, 5e7 in float64;
    far beyond only the range is right.
    """
    n, r = m.round(z * (1 / pi)), z
    for part in PI[m.is64]:
        r = m.fma(n, -part, r)
    r = m.clip(r, -pi / 2, pi / 2)
    odd = m.abs(m.fma(m.round(n * 0.5), -2.0, n))
    sign = m.fma(odd, -2.0, 1.0)
    size = m.abs(r)
    high, *low = PI[m.is64]
    rest = m.maximum((high / 2 - size) + sum(low) / 2, 0.0)
    return m.copysign(_sine_part(m, size), r) * sign, _sine_part(m, rest) * sign


SELU_SCALE, SELU_ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717


def _selu(m, z):
    low = expm1_negative(m, m.minimum(z, 0.0)) * (SELU_SCALE * SELU_ALPHA)
    return m.select(z < 0.0, low, z * SELU_SCALE)


ACTIVATION = {
    codes.IDENTITY: lambda m, z: z,
    codes.RELU: lambda m, z: m.select(z < 0.0, 0.0, z),  # keeps NaN
    codes.LEAKY_RELU: lambda m, z: m.select(z < 0.0, z * 0.01, z),
    codes.SIGMOID: sigmoid,
    codes.TANH: tanh,
    codes.ELU: lambda m, z: m.select(z < 0.0, expm1_negative(m, m.minimum(z, 0.0)), z),
    codes.SELU: _selu,
    codes.SOFTPLUS: _softplus,
    codes.SOFTSIGN: lambda m, z: z / (m.abs(z) + 1.0),
    codes.HARDTANH: lambda m, z: m.clip(z, -1.0, 1.0),
}


def prelu(m, z, slope):
    """(output, derivative, derivative by the slope); at 0 the left derivative, as torch's."""
    return m.select(z < 0.0, z * slope, z), m.select(z > 0.0, 1.0, slope), m.minimum(z, 0.0)


# STORED activations give (output, derivative) at once
ACTIVATION_AND_SLOPE = {
    codes.GELU: _gelu,
    codes.SILU: _silu,
    codes.GELU_TANH: _gelu_tanh,
    codes.MISH: _mish,
    codes.HARDSWISH: _hardswish,
    codes.SIN: sine,
}
# the others' derivative, from the output a
SLOPE = {
    codes.RELU: lambda m, a: m.select(a > 0.0, 1.0, 0.0),
    codes.LEAKY_RELU: lambda m, a: m.select(a > 0.0, 1.0, 0.01),
    codes.SIGMOID: lambda m, a: a * (1.0 - a),
    codes.TANH: lambda m, a: m.fma(a, -a, 1.0),
    codes.ELU: lambda m, a: m.select(a < 0.0, a + 1.0, 1.0),
    codes.SELU: lambda m, a: m.select(a > 0.0, SELU_SCALE, a + SELU_SCALE * SELU_ALPHA),
    codes.SOFTPLUS: lambda m, a: -expm1_negative(m, -a),
    codes.SOFTSIGN: lambda m, a: (1.0 - m.abs(a)) * (1.0 - m.abs(a)),
    codes.HARDTANH: lambda m, a: m.select(m.abs(a) < 1.0, 1.0, 0.0),
}


# Dropout's random bits, on 32-bit integers that wrap: xor, shift, multiply, add. The multipliers are
# those of a mixer found by search (C. Wellons, hash-prospector, 2018); GOLDEN is 2**32 / golden ratio.
GOLDEN, FIRST_FACTOR, SECOND_FACTOR = 0x9E3779B9, 0x21F0AAAD, 0x735A2D97
KEYS = 0x243F6A88, 0x85A308D3  # the first digits of pi


def chain(key, word):
    """The key that comes after ``key`` when ``word`` is taken in."""
    x = (key ^ word) + GOLDEN
    x = (x ^ (x >> 16)) * FIRST_FACTOR
    x = (x ^ (x >> 15)) * SECOND_FACTOR
    return x ^ (x >> 15)


def random_bits(first, second, column):
    """32 random bits for each column of a row that has the keys first and second."""
    x = (column * GOLDEN) ^ first
    x = (x ^ (x >> 16)) * FIRST_FACTOR
    x = x ^ second
    x = (x ^ (x >> 15)) * SECOND_FACTOR
    return x ^ (x >> 15)


def _quotient(m, x, d):
    """x / d, d > 0: Newton steps from a table-free guess, the same bits on every machine.

    A hardware division takes 16 cycles for 16 floats, this 5; approximate instructions would be
    faster still, but differ between makers. Blinn, IEEE CG&A 17(4), 1997, for the guess (12 %).
    """
    if m.is64:
        return x / d
    y = m.from_bits(0x7EF311C7 - m.bits(d))
    for _ in range(2):
        y = m.fma(m.fma(-d, y, 1.0), y, y)
    q = x * y
    return m.fma(m.fma(-d, q, x), y, q)  # the last step on the quotient: 6e-8


def _square_root(m, v):
    """sqrt(v), v >= 0, as v * rsqrt(v): Newton steps again, 0 for 0."""
    if m.is64:
        return m.sqrt(v)
    y = m.from_bits(0x5F3759DF - m.shift_right(m.bits(v), 1))  # 3 %
    half = v * -0.5
    for _ in range(2):
        y = m.fma(m.fma(half * y, y, 0.5), y, y)
    root = v * y
    return m.fma(m.fma(-root, root, v), y * 0.5, root)  # the last step on the root: rounding only


def _sgd(m, g, p, slots, c):
    return m.fma(-c[codes.C_LR], g, p), []


def _sgd_momentum(m, g, p, slots, c):
    """torch.optim.SGD: buf = momentum buf + (1 - dampening) g; Nesterov adds g + momentum buf."""
    buffer = m.fma(c[codes.C_MOMENTUM], slots[0], c[codes.C_FRESH] * g)
    step = m.fma(c[codes.C_BUFFER], buffer, c[codes.C_GRADIENT] * g)
    return m.fma(-c[codes.C_LR], step, p), [buffer]


class AnyDecay(list):
    """The constants of a variant whose running means may keep less than half of what they are."""


def _mean(m, c, which, kept, new, change=None):
    """The running mean ``kept`` moved towards ``new`` by c[which], the share of the new; change: new - kept.

    Where less than half is kept, kept + share (new - kept) would lose a new number that is far smaller: then
    c[which] is -decay, and it goes from the new one back. Plain variants are never given that.
    """
    share, change = c[which], new - kept if change is None else change
    return m.fma(share, change, m.select(share > 0.0, kept, new) if isinstance(c, AnyDecay) else kept)


def _mean_square(m, c, which, kept, x):
    """``_mean`` towards x*x."""
    return _mean(m, c, which, kept, x * x, m.fma(x, x, -kept))


def _squarable(m, g):
    """The gradient, no larger than what has a square: steps over its mean size stay what they are."""
    most = LARGEST_ROOT[m.is64]
    return m.clip(g, -most, most)


def _moments(m, g, slots, c):
    """The running means of g and g*g."""
    return _mean(m, c, codes.C_BETA1, slots[0], g), _mean_square(m, c, codes.C_BETA2, slots[1], g)


def _adam(m, g, p, slots, c):
    """torch.optim.Adam (Kingma and Ba 2015).

    lr and root carry the bias corrections: p -= lr/(1-b1^t) m / (sqrt(v)/sqrt(1-b2^t) + eps).
    """
    first, second = _moments(m, _squarable(m, g), slots, c)
    size = m.fma(_square_root(m, second), c[codes.C_ROOT], c[codes.C_EPS])
    return m.fma(-c[codes.C_LR], _quotient(m, first, size), p), [first, second]


def _amsgrad(m, g, p, slots, c):
    """Adam over the largest v so far (Reddi, Kale and Kumar 2018)."""
    first, second = _moments(m, _squarable(m, g), slots, c)
    largest = m.select(slots[2] > second, slots[2], second)
    size = m.fma(_square_root(m, largest), c[codes.C_ROOT], c[codes.C_EPS])
    return m.fma(-c[codes.C_LR], _quotient(m, first, size), p), [first, second, largest]


def _nadam(m, g, p, slots, c):
    """torch.optim.NAdam (Dozat 2016): the step mixes the gradient and its mean."""
    g = _squarable(m, g)
    first, second = _moments(m, g, slots, c)
    size = m.fma(_square_root(m, second), c[codes.C_ROOT], c[codes.C_EPS])
    step = m.fma(c[codes.C_SLOPE], g, c[codes.C_MEAN] * first)
    return m.fma(-c[codes.C_LR], _quotient(m, step, size), p), [first, second]


def _radam(m, g, p, slots, c):
    """torch.optim.RAdam (Liu et al. 2020): without sqrt(v) while its variance is too large."""
    first, second = _moments(m, _squarable(m, g), slots, c)
    size = _square_root(m, second) + c[codes.C_EPS]
    step = m.fma(c[codes.C_SIZED], _quotient(m, first, size), c[codes.C_PLAIN] * first)
    return m.fma(-c[codes.C_LR], step, p), [first, second]


def _adamax(m, g, p, slots, c):
    """torch.optim.Adamax (Kingma and Ba 2015, algorithm 2): u = max(b2 u, |g| + eps), 0 while all g were."""
    g = _squarable(m, g)  # its quotient takes no more either
    first = _mean(m, c, codes.C_BETA1, slots[0], g)
    kept, size = slots[1] * c[codes.C_KEEP], m.abs(g)
    largest = m.select(kept > size + c[codes.C_EPS], kept, size + c[codes.C_EPS])
    none = m.maximum(kept, size) == 0.0
    step = _quotient(m, first, largest)
    return m.fma(-c[codes.C_LR], step, p), [first, m.select(none, 0.0, largest)]


def _rmsprop(momentum, centered):
    """torch.optim.RMSprop (Hinton 2012; centered: Graves 2013): g / (sqrt(v) + eps)."""

    def formula(m, g, p, slots, c):
        g = _squarable(m, g)
        second = _mean_square(m, c, codes.C_BETA2, slots[0], g)
        spread, state = second, [second]
        if centered:
            mean = _mean(m, c, codes.C_BETA2, slots[1], g)
            spread = m.maximum(m.fma(-mean, mean, second), 0.0)  # below 0 by rounding only
            state.append(mean)
        step = _quotient(m, g, _square_root(m, spread) + c[codes.C_EPS])
        if momentum:
            step = m.fma(c[codes.C_INERTIA], slots[-1], step)
            state.append(step)
        return m.fma(-c[codes.C_LR], step, p), state

    return formula


def _adagrad(m, g, p, slots, c):
    """torch.optim.Adagrad (Duchi, Hazan and Singer 2011): over the root of the sum of all g*g."""
    g, most = _squarable(m, g), LARGEST_ROOT[m.is64] ** 2
    total = m.minimum(m.fma(g, g, slots[0]), most)
    size = _square_root(m, m.minimum(total + c[codes.C_START], most)) + c[codes.C_EPS]
    return m.fma(-c[codes.C_LR], _quotient(m, g, size), p), [total]


def _adadelta(m, g, p, slots, c):
    """torch.optim.Adadelta (Zeiler 2012): g sqrt(mean of steps^2 + eps) / sqrt(mean of g^2 + eps)."""
    g = _squarable(m, g)
    second = _mean_square(m, c, codes.C_BETA2, slots[0], g)
    past = _square_root(m, slots[1] + c[codes.C_EPS])
    step = _quotient(m, g * past, _square_root(m, second + c[codes.C_EPS]))
    moved = _mean_square(m, c, codes.C_BETA2, slots[1], step)
    return m.fma(-c[codes.C_LR], step, p), [second, moved]


def _signed(m, x, size):
    """size * sign(x), 0 for 0, NaN for NaN."""
    return m.select(x > 0.0, size, m.select(x < 0.0, -size, x))


def _lion(m, g, p, slots, c):
    """Chen et al. 2023: the sign of b1 m + (1 - b1) g; then m = b2 m + (1 - b2) g."""
    towards = _mean(m, c, codes.C_BETA1, slots[0], g)
    first = _mean(m, c, codes.C_BETA2, slots[0], g)
    return p - _signed(m, towards, c[codes.C_LR]), [first]


def decay(m, g, p, c):
    """(gradient, parameter) with weight decay in the one (C_L2), or, as in AdamW, on the other (C_DECAY)."""
    return m.fma(c[codes.C_L2], p, g), m.fma(-c[codes.C_DECAY], p, p)


def limit(m, g, p, c):
    """The gradient clipped by value, then L1 added."""
    return m.clip(g, -c[codes.C_CLIP], c[codes.C_CLIP]) + _signed(m, p, c[codes.C_L1])


def _decayed(rule):
    """The rule behind ``decay``."""

    def formula(m, g, p, slots, c):
        return rule(m, *decay(m, g, p, c), slots, c)

    return formula


def _full(rule):
    """The rule behind ``limit`` and ``decay``, for running means of any decay."""

    def formula(m, g, p, slots, c):
        return _decayed(rule)(m, limit(m, g, p, c), p, slots, AnyDecay(c))

    return formula


def average(m, mean, p, share):
    """The moving average of a parameter, by a share above 0."""
    return m.fma(share, p - mean, mean)


RULES = {
    codes.SGD: _sgd,
    codes.SGD_MOMENTUM: _sgd_momentum,
    codes.ADAM: _adam,
    codes.AMSGRAD: _amsgrad,
    codes.NADAM: _nadam,
    codes.RADAM: _radam,
    codes.ADAMAX: _adamax,
    codes.RMSPROP: _rmsprop(False, False),
    codes.RMSPROP_MOMENTUM: _rmsprop(True, False),
    codes.RMSPROP_CENTERED: _rmsprop(False, True),
    codes.RMSPROP_CENTERED_MOMENTUM: _rmsprop(True, True),
    codes.ADAGRAD: _adagrad,
    codes.ADADELTA: _adadelta,
    codes.LION: _lion,
}
# (gradient, parameter, slots, constants) -> (parameter, slots); FULL codes may keep the average too
UPDATE = (
    RULES
    | {code + codes.DECAY: _decayed(RULES[code]) for code in codes.COMMON}
    | {code + codes.FULL: _full(rule) for code, rule in RULES.items()}
)
