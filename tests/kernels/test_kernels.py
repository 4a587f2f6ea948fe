"""Every CPU kernel against the plain NumPy reference: both dtypes, ragged shapes, poisoned outputs."""

import itertools
import math

import harness as h
import numpy as np
import pytest

from fastbp.kernels import codes
from fastbp.kernels import reference as ref
from fastbp.network.layout import align, arena

SIZES = [1, 7, 8, 9, 31, 33, 100]
SHAPES = list(itertools.product(SIZES, SIZES, SIZES))  # batch, in, out
# sums longer than one block, over inputs, outputs and the batch; rows of several groups
SHAPES += [(5, 129, 9), (7, 300, 33), (129, 9, 7), (300, 113, 70), (257, 1, 1), (9, 33, 300), (3, 7, 129)]


@pytest.fixture(params=h.DTYPES)
def dtype(request):
    h.load(request.param)
    return request.param


def scratch(dtype, depth):
    """(panel, tile, zeros, one): what the dense kernels are lent; NaN where they must write first."""
    item = np.dtype(dtype).itemsize
    panel, tile = arena(align(depth, item) * 256 // item, dtype), arena(256 * 256 // item, dtype)
    panel[:], tile[:] = np.nan, np.nan
    one = arena(16, dtype)
    one[:] = np.nan
    one[0] = 1
    return panel, tile, arena(256 // item, dtype), one


def columns(width, dtype):
    return align(width, np.dtype(dtype).itemsize)


def draw(rng, dtype, *shape):
    return rng.standard_normal(shape).astype(dtype)


def kept_slope(activation, z, found, tolerance):
    """The reference's slope at z; where rounding may carry z over a jump, that of the side found."""
    exact = ref.activation_derivative(activation, z)
    for jump in (-3.0, 3.0) if activation == "hardswish" else ():
        below = ref.activation_derivative(activation, np.minimum(z, np.nextafter(jump, -np.inf)))
        above = ref.activation_derivative(activation, np.maximum(z, np.nextafter(jump, np.inf)))
        side = np.where(np.abs(found - below) < np.abs(found - above), below, above)
        exact = np.where(np.abs(z - jump) < 50 * tolerance, side, exact)
    return exact


@pytest.mark.parametrize("activation", codes.ACTIVATIONS)
def test_dense_forward(rng, dtype, activation):
    for batch, inner, outer in SHAPES:
        x, w, b = draw(rng, dtype, batch, inner), draw(rng, dtype, inner, outer), draw(rng, dtype, outer)
        out, slope = h.poisoned(batch, outer, dtype), h.poisoned(batch, outer, dtype)
        padded_w = h.padded(np.vstack([w, b]), dtype)
        h.forward(out, slope, 1, h.padded(x, dtype, np.nan), padded_w, inner, codes.ACTIVATIONS[activation],
                  0, batch, 0, columns(outer, dtype))  # fmt: skip
        z = x.astype(float) @ w.astype(float) + b
        size = h.sum_size(np.hstack([x, np.ones((batch, 1))]), np.vstack([w, b]))
        exact = ref.activation(activation, z)
        assert h.relative(out[:, :outer], exact, size) < h.TOLERANCE[dtype]
        if codes.ACTIVATIONS[activation] in codes.STORED:
            exact = kept_slope(activation, z, slope[:, :outer], h.TOLERANCE[dtype])
            assert h.relative(slope[:, :outer], exact, size) < h.TOLERANCE[dtype]
        else:
            assert np.isnan(slope).all()


def test_dense_forward_writes_only_its_rows_and_columns(rng, dtype):
    x, w = draw(rng, dtype, 20, 10), draw(rng, dtype, 11, 200)
    whole, part = h.poisoned(20, 200, dtype), h.poisoned(20, 200, dtype)
    args = (h.padded(x, dtype), h.padded(w, dtype), 10, codes.TANH)
    h.forward(whole, whole, 0, *args, 0, 20, 0, columns(200, dtype))
    h.forward(part, part, 0, *args, 5, 13, 64, 128)
    assert np.array_equal(part[5:13, 64:128], whole[5:13, 64:128])
    part[5:13, 64:128] = np.nan
    assert np.isnan(part).all()


# f' as a function of the output, exact for the rounded output that the kernel is given: against f' of
# the input, one rounding of tanh near 1 would count a thousandfold
SLOPE_OF_OUTPUT = {
    "identity": np.ones_like,
    "relu": lambda a: np.where(a > 0, 1.0, 0.0),
    "leaky_relu": lambda a: np.where(a > 0, 1.0, 0.01),
    "sigmoid": lambda a: a * (1 - a),
    "tanh": lambda a: (1 - a) * (1 + a),
    "elu": lambda a: np.where(a < 0, 1 + a, 1.0),
    "celu": lambda a: np.where(a < 0, 1 + a, 1.0),
    "selu": lambda a: np.where(a > 0, ref.SELU[0], a + ref.SELU[0] * ref.SELU[1]),
    "softplus": lambda a: -np.expm1(-a),
    "softsign": lambda a: (1 - np.abs(a)) ** 2,
    "hardtanh": lambda a: np.where(np.abs(a) < 1, 1.0, 0.0),
}


@pytest.mark.parametrize("activation", codes.ACTIVATIONS)
def test_dense_backward(rng, dtype, activation):
    code = codes.ACTIVATIONS[activation]
    for batch, inner, outer in SHAPES:
        delta, w = draw(rng, dtype, batch, outer), draw(rng, dtype, inner + 1, outer)
        z = draw(rng, dtype, batch, inner)
        a = ref.activation(activation, z.astype(float)).astype(dtype)
        out = h.poisoned(batch, inner, dtype)
        if code in codes.STORED:  # the forward pass left f' there
            slope = ref.activation_derivative(activation, z.astype(float))
            out = h.padded(slope, dtype)
        else:
            slope = SLOPE_OF_OUTPUT[activation](a.astype(float))
        panel, tile, zeros, _ = scratch(dtype, outer)
        h.backward(out, h.padded(a, dtype), h.padded(delta, dtype, np.nan), h.padded(w, dtype), outer, inner,
                   code, 0, batch, 0, columns(inner, dtype), panel, tile, zeros)  # fmt: skip
        exact = (delta.astype(float) @ w[:-1].astype(float).T) * slope
        size = h.sum_size(delta, w[:-1].T) * np.abs(slope)
        assert h.relative(out[:, :inner], exact, size) < h.TOLERANCE[dtype]
        if code not in codes.STORED:
            assert (out[:, inner : columns(inner, dtype)] == 0).all()  # padding must stay harmless


def _constants(dtype, **values):
    c = arena(codes.CONSTANTS, dtype)
    c[:] = np.nan
    for name, value in values.items():
        c[getattr(codes, name)] = value
    return c


ADAM = {"C_LR": 0.01, "C_BETA1": 0.1, "C_BETA2": 0.001, "C_ROOT": 3.0, "C_EPS": 1e-8}
SMOOTH = {"C_LR": 0.01, "C_BETA2": 0.1, "C_EPS": 1e-2}
MOMENTUM = {"C_LR": 0.1, "C_MOMENTUM": 0.9, "C_FRESH": 0.8, "C_GRADIENT": 1, "C_BUFFER": 0.9}
DECAY = {"C_L2": 0.02, "C_DECAY": 0.01}
TERMS = DECAY | {"C_L1": 0.3, "C_CLIP": 1.5, "C_EMA": 0.0}
RULES = {
    "sgd": (codes.SGD, {"C_LR": 0.1}),
    "sgd_momentum": (codes.SGD_MOMENTUM, MOMENTUM),
    "adam": (codes.ADAM, ADAM),
    "amsgrad": (codes.AMSGRAD, ADAM),
    "nadam": (codes.NADAM, ADAM | {"C_SLOPE": 0.3, "C_MEAN": 0.8}),
    "radam": (codes.RADAM, ADAM | {"C_SIZED": 0.1, "C_PLAIN": 0.0}),
    "radam_begins": (codes.RADAM, ADAM | {"C_SIZED": 0.0, "C_PLAIN": 1.0}),
    "adamax": (codes.ADAMAX, ADAM | {"C_KEEP": 0.9}),
    "rmsprop": (codes.RMSPROP, SMOOTH),
    "rmsprop_momentum": (codes.RMSPROP_MOMENTUM, SMOOTH | {"C_INERTIA": 0.7}),
    "rmsprop_centered": (codes.RMSPROP_CENTERED, SMOOTH),
    "rmsprop_centered_momentum": (codes.RMSPROP_CENTERED_MOMENTUM, SMOOTH | {"C_INERTIA": 0.7}),
    "adagrad": (codes.ADAGRAD, {"C_LR": 0.1, "C_EPS": 1e-3, "C_START": 0.1}),
    "adadelta": (codes.ADADELTA, SMOOTH),
    "lion": (codes.LION, {"C_LR": 0.1, "C_BETA1": 0.1, "C_BETA2": 0.01}),
}
SHORT = {"C_BETA1": -0.0, "C_BETA2": -0.3}  # of means that keep nothing, and 0.3, of themselves
COMMON = ("sgd", "sgd_momentum", "adam")
UPDATES = (
    {"store": (codes.STORE, {}), "add": (codes.ADD, {})}
    | RULES
    | {f"{name}+decay": (RULES[name][0] + codes.DECAY, RULES[name][1] | DECAY) for name in COMMON}
    | {f"{name}+full": (code + codes.FULL, c | TERMS) for name, (code, c) in RULES.items()}
    | {
        f"{name}+short": (code + codes.FULL, c | TERMS | {k: v for k, v in SHORT.items() if k in c})
        for name, (code, c) in RULES.items()
        if "C_BETA2" in c
    }
    | {"sgd+ema": (codes.SGD + codes.FULL, {"C_LR": 0.1} | TERMS | {"C_EMA": 0.3})}
    | {"adam+ema": (codes.ADAM + codes.FULL, ADAM | TERMS | {"C_EMA": 0.3})}
)


def _updated(code, g, p, slots, c):
    """The update's formula in float64, from the same constants."""
    c = {name[2:].lower(): value for name, value in c.items()}
    rule, variant = code % codes.RULES, code // codes.RULES * codes.RULES
    if rule in (codes.STORE, codes.ADD):
        return p, [g if rule == codes.STORE else slots[0] + g]
    if variant == codes.FULL:
        g = np.clip(g, -c["clip"], c["clip"]) + c["l1"] * np.sign(p)
    if variant:
        g, p = g + c["l2"] * p, p - c["decay"] * p
    own, average = slots[: codes.SLOTS[code]], slots[codes.SLOTS[code] :]
    step, state = _step(rule, g, own, c)
    new = p - c["lr"] * step
    return new, state + [a + c["ema"] * (new - a) for a in average]


def _mean(share, kept, new):
    return kept + share * (new - kept) if share > 0 else new + share * (new - kept)


def _step(rule, g, slots, c):
    """(what lr is multiplied by, the new slots)."""
    beta1, beta2, eps = c.get("beta1"), c.get("beta2"), c.get("eps")
    if rule == codes.SGD:
        return g, []
    if rule == codes.SGD_MOMENTUM:
        buffer = c["momentum"] * slots[0] + c["fresh"] * g
        return c["gradient"] * g + c["buffer"] * buffer, [buffer]
    if rule == codes.ADAGRAD:
        total = slots[0] + g * g
        return g / (np.sqrt(total + c["start"]) + eps), [total]
    if rule == codes.LION:
        return np.sign(_mean(beta1, slots[0], g)), [_mean(beta2, slots[0], g)]
    if rule == codes.ADADELTA:
        second = _mean(beta2, slots[0], g * g)
        step = g * np.sqrt(slots[1] + eps) / np.sqrt(second + eps)
        return step, [second, _mean(beta2, slots[1], step * step)]
    if "inertia" in c or rule in (codes.RMSPROP, codes.RMSPROP_CENTERED):
        state = [_mean(beta2, slots[0], g * g)]
        if rule in (codes.RMSPROP_CENTERED, codes.RMSPROP_CENTERED_MOMENTUM):
            state.append(_mean(beta2, slots[1], g))
        spread = state[0] - state[1] ** 2 if len(state) > 1 else state[0]
        step = g / (np.sqrt(np.maximum(spread, 0)) + eps)
        if "inertia" not in c:
            return step, state
        step = c["inertia"] * slots[-1] + step
        return step, [*state, step]
    first = _mean(beta1, slots[0], g)
    if rule == codes.ADAMAX:
        largest = np.maximum(c["keep"] * slots[1], np.abs(g) + eps)
        return first / largest, [first, largest]
    second = _mean(beta2, slots[1], g * g)
    if rule == codes.RADAM:
        return c["sized"] * first / (np.sqrt(second) + eps) + c["plain"] * first, [first, second]
    if rule == codes.AMSGRAD:
        top = np.maximum(second, slots[2])
        return first / (np.sqrt(top) * c["root"] + eps), [first, second, top]
    mixed = c["slope"] * g + c["mean"] * first if rule == codes.NADAM else first
    return mixed / (np.sqrt(second) * c["root"] + eps), [first, second]


def _slots(rng, dtype, code, shape, average):
    """Random slots as the rules leave them: second moments above the squares of the first, and none so near
    to 0 that a gradient's rounding decides the step, whose size is 1 over their root."""
    rule = code % codes.RULES
    slots = [draw(rng, dtype, *shape) for _ in range(codes.SLOTS[code] + average)]
    first = {codes.RMSPROP, codes.RMSPROP_MOMENTUM, codes.RMSPROP_CENTERED,
             codes.RMSPROP_CENTERED_MOMENTUM, codes.ADAGRAD, codes.ADADELTA}  # fmt: skip
    centered = {codes.RMSPROP_CENTERED, codes.RMSPROP_CENTERED_MOMENTUM}
    squares = {codes.ADADELTA: [0, 1], codes.AMSGRAD: [1, 2]}.get(rule, [0] if rule in first else [1])
    if rule not in (codes.STORE, codes.ADD, codes.SGD, codes.SGD_MOMENTUM, codes.LION):
        for s in squares:
            slots[s] = slots[s] ** 2 + (slots[1] ** 2 + 1 if rule in centered else 0.1)
    return slots


WHOLE = ("store", "add", "sgd", "sgd_momentum", "adam", "adam+decay", "adam+ema")  # run at all shapes


@pytest.mark.parametrize("name", UPDATES)
def test_dense_update(rng, dtype, name):
    code, values = UPDATES[name]
    for batch, inner, outer in SHAPES if name in WHOLE else SHAPES[::7]:
        x, delta = draw(rng, dtype, batch, inner), draw(rng, dtype, batch, outer)
        p = draw(rng, dtype, inner + 1, outer)
        slots = _slots(rng, dtype, code, p.shape, "ema" in name)
        w = h.padded(p, dtype)
        flat = arena(max(1, len(slots)) * w.size, dtype)
        for s, slot in enumerate(slots):
            flat[s * w.size : (s + 1) * w.size] = (
                h.padded(slot, dtype) if name != "store" else np.full_like(w, np.nan)
            ).ravel()
        _, tile, zeros, one = scratch(dtype, outer)
        h.weight_update(w, flat, h.padded(x, dtype, np.nan), h.padded(delta, dtype), batch, inner, outer,
                        code, 0, inner + 1, 0, columns(outer, dtype), _constants(dtype, **values),
                        tile, zeros, one)  # fmt: skip
        ones = np.hstack([x, np.ones((batch, 1))]).astype(float)
        exact, state = _updated(code, ones.T @ delta.astype(float), p.astype(float),
                                [s.astype(float) for s in slots], values)  # fmt: skip
        size = h.sum_size(ones.T, delta)
        assert h.relative(w[:, :outer], exact, size) < h.TOLERANCE[dtype]
        got = flat.reshape(-1, *w.shape)
        for s, slot in enumerate(state):
            assert h.relative(got[s][:, :outer], slot, size) < h.TOLERANCE[dtype]
        if name != "store":
            assert (w[:, outer : columns(outer, dtype)] == 0).all()
            assert (got[:, :, outer : columns(outer, dtype)] == 0).all()


@pytest.mark.parametrize("row,last", [(0, 7), (5, 6), (13, 20), (19, 21), (20, 21), (0, 21)])
def test_dense_update_touches_only_its_rows_and_columns(rng, dtype, row, last):
    """21 rows with the bias; the same bits as the whole, and nothing else changed."""
    x, delta = h.padded(draw(rng, dtype, 9, 20), dtype), h.padded(draw(rng, dtype, 9, 200), dtype)
    before = h.padded(draw(rng, dtype, 21, 200), dtype)
    whole, part = before.copy(), before.copy()
    wide, narrow = (arena(2 * before.size, dtype) for _ in range(2))
    _, tile, zeros, one = scratch(dtype, 200)
    constants = _constants(dtype, **UPDATES["adam"][1])
    args = (x, delta, 9, 20, 200, codes.ADAM)
    h.weight_update(whole, wide, *args, 0, 21, 0, columns(200, dtype), constants, tile, zeros, one)
    h.weight_update(part, narrow, *args, row, last, 64, 192, constants, tile, zeros, one)
    for got, all_of_it, old in (
        (part, whole, before),
        *(
            (n, w, np.zeros_like(before))
            for n, w in zip(narrow.reshape(2, *before.shape), wide.reshape(2, *before.shape), strict=True)
        ),
    ):
        assert np.array_equal(got[row:last, 64:192], all_of_it[row:last, 64:192])
        got[row:last, 64:192] = old[row:last, 64:192]
        assert np.array_equal(got, old)


@pytest.mark.parametrize("most", [1000, 128, 50, 7])
def test_dense_update_in_pieces_with_packed_operands_adds_the_pieces(rng, dtype, most):
    """The sum of the pieces' gradients, one after the other, each as if it were a batch."""
    for batch, inner, outer in SHAPES[:: 9 if most > 50 else 23] + SHAPES[-7:]:
        x, delta = draw(rng, dtype, batch + 1, inner), draw(rng, dtype, batch, outer)
        x = h.padded(x, dtype, np.nan)  # packing reads a vector behind the last row
        delta, w = h.padded(delta, dtype), h.padded(draw(rng, dtype, inner + 1, outer), dtype)
        slots, piece, sums = arena(2 * w.size, dtype), arena(w.size, dtype), np.full_like(w, np.nan)
        _, tile, zeros, one = scratch(dtype, outer)
        packs = arena((delta.shape[1] + codes.PACKED) * min(batch, most), dtype)
        packs[:] = np.nan
        constants = _constants(dtype, **UPDATES["adam"][1])
        rest = (0, inner + 1, 0, columns(outer, dtype), constants, tile, zeros, one)
        total = None
        for start in range(0, batch, most):
            count = min(most, batch - start)
            h.weight_update(w, piece, x[start:], delta[start:], count, inner, outer, codes.STORE, *rest)
            total = piece.copy() if total is None else total + piece
        before = w.copy()
        h.weight_update_by_pieces(w, slots, x, delta, batch, inner, outer, codes.STORE, *rest, sums, packs,
                                  most)  # fmt: skip
        assert np.array_equal(slots[: w.size], total) and np.array_equal(w, before)
        slots[:] = 0.5
        once = slots.copy()
        h.weight_update_by_pieces(w, slots, x, delta, batch, inner, outer, codes.ADAM, *rest, sums, packs,
                                  most)  # fmt: skip
        h.apply_update(codes.ADAM, total, before.ravel(), once, constants)
        assert np.array_equal(w.ravel(), before.ravel()) and np.array_equal(slots, once)


# units in the last place, over the whole range; the formulas' errors are listed in docs/maths.md
ULP = {
    "sigmoid": 3.0,
    "tanh": 3.0,
    "elu": 2.0,
    "gelu": 6.0,
    "silu": 4.0,
    "selu": 3.0,
    "gelu_tanh": 256.0,
    "mish": 6.0,
    "softplus": 3.0,
    "softsign": 2.0,
    "hardswish": 3.0,
    "sin": 3.0,
}


@pytest.mark.parametrize("name", ULP)
def test_activations_in_ulp(rng, name):
    """float32 against float64 libm: normal results within the stated units in the last place."""
    h.load("float32")
    size = 1 << 18
    x = np.concatenate([rng.uniform(-12, 12, size), rng.uniform(-100, 100, size), rng.normal(0, 1e-3, size)])
    a = arena(x.size, "float32")
    a[:] = x
    exact = ref.activation(name, a.astype(float))
    h.activate(codes.ACTIVATIONS[name], a)
    normal = np.abs(exact) > 2e-36  # below, exp's result or its product is a denormal: flushed
    error = np.abs(a - exact)[normal] / np.spacing(np.abs(exact[normal]).astype("float32"))
    print(name, "largest error", error.max(), "ULP at", x[normal][error.argmax()])
    assert error.max() <= ULP[name]
    assert np.abs(a - exact)[~normal].max(initial=0) < 2e-36


@pytest.mark.parametrize("name", codes.ACTIVATIONS)
def test_activations_keep_nan_and_limits(dtype, name):
    a = arena(16, dtype)
    big = 1e3 if name == "sin" else 1e30
    a[:4] = np.nan, big, -big, 0
    h.activate(codes.ACTIVATIONS[name], a)
    assert np.isnan(a[0])
    exact = ref.activation(name, np.array([big, -big, 0.0]))
    assert np.allclose(a[1:4], exact, rtol=1e-6, atol=0)


def test_sin_of_any_finite_number_is_in_range(dtype):
    a = arena(16, dtype)
    a[:3] = 1e30, -1e30, np.finfo(dtype).max
    h.activate(codes.SIN, a)
    assert (np.abs(a) <= 1).all()


def test_sums(rng, dtype):
    for count in (1, 7, 16, 17, 100, 4096):
        x = arena(count, dtype)
        x[:] = rng.standard_normal(count)
        out = np.full(2, np.nan, dtype)
        h.sums(x, out)
        assert math.isclose(out[0], x.sum(dtype=float), abs_tol=1e-6 * count)
        assert math.isclose(out[1], (x.astype(float) ** 2).sum(), rel_tol=1e-6)


@pytest.mark.parametrize("source", ["f2", "f4", "f8", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "?"])
def test_convert_row(rng, dtype, source):
    for count, step in itertools.product((1, 7, 15, 16, 17, 100), (1, 3, -2)):
        values = rng.integers(0, 2 if source == "?" else 100, count * abs(step)).astype(source)
        if source[0] in "fi" and source != "i1":
            values = (values - 50).astype(source) / np.asarray(4 if source[0] == "f" else 1, source)
            values = values.astype(source)
        row = values[::step]
        out = np.full(count + 1, np.nan, dtype)
        h.convert(
            codes.DTYPES[row.dtype.kind, row.dtype.itemsize], count, row.ctypes.data, row.strides[0], out
        )
        assert np.array_equal(out[:-1], row.astype(dtype))
        assert np.isnan(out[-1])


@pytest.mark.parametrize("source", ["f2", "f4", "f8", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "?"])
def test_scatter_row(rng, dtype, source):
    """Zeros and a row's numbers, twice in one place added; columns outside are left out."""
    for count, stored in itertools.product((1, 7, 16, 17, 100), (0, 1, 5, 40)):
        columns = rng.integers(-3, count + 4, stored).astype(np.int32)
        columns[: stored // 8] = 2**31 - 1
        values = rng.integers(0, 2 if source == "?" else 30, stored).astype(source)
        exact = np.zeros(count)
        inside = (columns >= 0) & (columns < count)
        np.add.at(exact, columns[inside], values[inside].astype(float))
        out = np.full(count + 1, np.nan, dtype)
        code = codes.DTYPES[values.dtype.kind, values.dtype.itemsize]
        row = count, stored, columns.ctypes.data, values.ctypes.data, out
        assert h.scatter(code, *row) == 0
        assert np.array_equal(out[:-1], exact)
        assert np.isnan(out[-1])
        if source[0] == "f" and inside.any():
            values[rng.choice(np.flatnonzero(inside))] = rng.choice([np.nan, np.inf, -np.inf])
            assert h.scatter(code, *row) == 1


def test_convert_row_of_every_half(dtype):
    """All 16-bit floats: denormals, both zeros, infinities, NaN; and those that are not finite are seen."""
    whole = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    for values in (whole, whole[np.isfinite(whole)]):
        for step in (1, 2):
            row = np.repeat(values, step)[::step]
            out = np.full(len(row), np.nan, dtype)
            bad = h.convert(codes.DTYPES["f", 2], len(row), row.ctypes.data, row.strides[0], out)
            assert bad == (values is whole)
            assert np.array_equal(out, values.astype(dtype), equal_nan=True)
            assert np.array_equal(np.signbit(out), np.signbit(values))


def test_shuffle_is_a_permutation_and_repeats():
    for count in (1, 2, 3, 100, 1437):
        order, again, other = (np.full(count, -1, np.int32) for _ in range(3))
        h.shuffle(order, 5, 7)
        h.shuffle(again, 5, 7)
        h.shuffle(other, 5, 8)
        assert np.array_equal(np.sort(order), np.arange(count))
        assert np.array_equal(order, again)
        assert count < 100 or not np.array_equal(order, other)


def test_shuffle_is_uniform():
    """Each place gets each number equally often: chi-square over 20,000 shuffles of 6."""
    order, counts = np.empty(6, np.int32), np.zeros((6, 6))
    for stream in range(20_000):
        h.shuffle(order, 11, stream)
        counts[np.arange(6), order] += 1
    expected = 20_000 / 6
    statistic = ((counts - expected) ** 2 / expected).sum()
    assert statistic < 60  # 25 degrees of freedom: 1e-4 of the time above; fixed seed, so no flicker


def test_pointers():
    a = np.array([1.0, 2, 3])
    h.swap_ends(a)
    assert a.tolist() == [3, 2, 1]
