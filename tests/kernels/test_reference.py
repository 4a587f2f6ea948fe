"""The oracle itself: against central differences, values worked out by hand, and torch in float64.

Data is drawn anew in every run, by the fixture `rng` of conftest.
"""

import functools
import math

import numpy as np
import pytest

from fastbp.kernels import reference as ref

SIZES = [5, 7, 6, 4]
STEP = 1e-5  # of the central differences: truncation and rounding errors are both near 1e-10
# where f or f' jumps; elu and celu with alpha 1 have no jump but a bend of f'
KINKED_ACTIVATIONS = dict.fromkeys(("relu", "leaky_relu", "elu", "celu", "selu"), (0.0,))
KINKED_ACTIVATIONS |= {"hardtanh": (-1.0, 1.0), "hardswish": (-3.0, 3.0)}
KINKED_LOSSES = {"mae": 0.0, "huber": 1.0}  # the loss or its derivative jumps at |z - t| = this

# cross_entropy twice: its targets are labels or probabilities. The other losses: test_losses.py.
LOSSES = ["cross_entropy", "bce_with_logits", "mse", "mae", "huber"]
TARGETS = [*LOSSES, "cross_entropy/soft"]


def draw_params(rng, sizes, dtype=np.float64):
    """Parameters that keep z near unit variance, so that no activation sits in its flat tails."""
    return [
        (
            (rng.standard_normal((i, o)) / np.sqrt(i)).astype(dtype),
            (0.5 * rng.standard_normal(o)).astype(dtype),
        )
        for i, o in zip(sizes[:-1], sizes[1:], strict=True)
    ]


def draw_targets(rng, target, batch, outputs):
    if target == "cross_entropy":
        return rng.integers(0, outputs, batch)
    if target == "cross_entropy/soft":
        return rng.dirichlet(np.ones(outputs), batch)
    if target == "bce_with_logits":
        return rng.random((batch, outputs))
    return 1.5 * rng.standard_normal((batch, outputs))


def near_a_kink(params, x, t, activations, loss):
    """Is a z of the network so near a kink that STEP in one parameter could carry it across?"""
    margin = 100 * STEP
    layers = ref.forward(params, x, activations)
    for name, (z, _) in zip(activations, layers, strict=False):
        if any(np.any(np.abs(z - kink) < margin) for kink in KINKED_ACTIVATIONS.get(name, ())):
            return True
    if loss not in KINKED_LOSSES:
        return False
    d = np.abs(layers[-1][0] - t)
    return bool(np.any(np.abs(d - KINKED_LOSSES[loss]) < margin))


def draw_problem(rng, target, activations, sizes=SIZES, batch=8):
    """(params, x, t, loss) in float64, with no kink within reach of STEP."""
    loss = target.split("/")[0]
    while True:
        params = draw_params(rng, sizes)
        x = rng.standard_normal((batch, sizes[0]))
        t = draw_targets(rng, target, batch, sizes[-1])
        if not near_a_kink(params, x, t, activations, loss):
            return params, x, t, loss


def flat(pairs):
    return np.concatenate([array.ravel() for pair in pairs for array in pair])


def copies(params):
    return [(W.copy(), b.copy()) for W, b in params]


def loss_at(params, x, t, activations, loss, w=None):
    z = ref.forward(params, x, activations)[-1][0]
    return ref.loss_and_delta(loss, z, t, w)[0]


def central_differences(params, *problem):
    """d loss / d p for every parameter, one at a time, flat."""
    differences = []
    for array in (array for pair in params for array in pair):
        for i in np.ndindex(array.shape):
            p = array[i]
            array[i] = p + STEP
            up = loss_at(params, *problem)
            array[i] = p - STEP
            down = loss_at(params, *problem)
            array[i] = p
            differences.append((up - down) / (2 * STEP))
    return np.array(differences)


def assert_near(actual, expected, relative):
    """|actual - expected| <= relative |expected|, norms over the whole array."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    error = np.linalg.norm(actual - expected)
    assert error <= relative * np.linalg.norm(expected), (
        f"|difference| {error:.3g}, allowed {relative:g} of |expected| {np.linalg.norm(expected):.3g}"
    )


# ------------------------------------------------------------------- against central differences


def check_gradients(params, x, t, activations, loss, w=None):
    value, grads = ref.gradients(params, x, t, activations, loss, w)
    assert value == loss_at(params, x, t, activations, loss, w)
    for (W, b), (dW, db) in zip(params, grads, strict=True):
        assert dW.shape == W.shape and db.shape == b.shape
    expected = central_differences(params, x, t, activations, loss, w)
    assert np.linalg.norm(expected) > 1e-3  # a gradient of nothing would agree with anything
    assert_near(flat(grads), expected, 1e-7)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ref.ACTIVATIONS)
def test_gradients_are_central_differences(rng, name, target):
    activations = [name, name]
    params, x, t, loss = draw_problem(rng, target, activations)
    check_gradients(params, x, t, activations, loss)


@pytest.mark.parametrize("target", TARGETS)
def test_gradients_with_sample_weights(rng, target):
    activations = ["gelu", "leaky_relu"]
    params, x, t, loss = draw_problem(rng, target, activations)
    check_gradients(params, x, t, activations, loss, rng.exponential(size=len(x)))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    ("sizes", "activations", "batch"),
    [
        ([5, 4], [], 8),
        ([5, 4], [], 1),
        ([5, 7, 6, 4], ["tanh", "relu"], 1),
        ([1, 1, 2], ["sigmoid"], 3),
        ([3, 5, 5, 4, 2], ["relu", "silu", "elu"], 6),
    ],
)
def test_gradients_of_other_shapes(rng, sizes, activations, batch, target):
    params, x, t, loss = draw_problem(rng, target, activations, sizes, batch)
    check_gradients(params, x, t, activations, loss)


@pytest.mark.parametrize("constants", [{"slope": 0.3}, {"alpha": 1.7}], ids=str)
def test_derivative_follows_the_constants(rng, constants):
    name = "leaky_relu" if "slope" in constants else "elu"
    z = rng.uniform(0.01, 3, 100) * rng.choice([-1, 1], 100)
    up, down = (ref.activation(name, z + s, **constants) for s in (STEP, -STEP))
    assert_near(ref.activation_derivative(name, z, **constants), (up - down) / (2 * STEP), 1e-9)


# --------------------------------------------------------------------------- worked out by hand


@pytest.mark.parametrize(
    ("name", "z", "value", "derivative"),
    [
        ("identity", -3.0, -3.0, 1.0),
        ("relu", 2.0, 2.0, 1.0),
        ("relu", -2.0, 0.0, 0.0),
        ("relu", 0.0, 0.0, 0.0),
        ("leaky_relu", 2.0, 2.0, 1.0),
        ("leaky_relu", -2.0, -0.02, 0.01),
        ("leaky_relu", 0.0, 0.0, 0.01),
        ("sigmoid", 0.0, 1 / 2, 1 / 4),
        ("sigmoid", math.log(3), 3 / 4, 3 / 16),
        ("sigmoid", -math.log(3), 1 / 4, 3 / 16),
        ("tanh", 0.0, 0.0, 1.0),
        ("tanh", math.log(2), 3 / 5, 16 / 25),
        ("tanh", -math.log(2), -3 / 5, 16 / 25),
        ("elu", 2.0, 2.0, 1.0),
        ("elu", -math.log(2), -1 / 2, 1 / 2),
        ("elu", 0.0, 0.0, 1.0),
        ("gelu", 0.0, 0.0, 1 / 2),
        ("gelu", 1.0, 0.8413447460685429, 1.0833154705876864),  # Phi(1), Phi(1) + phi(1)
        ("gelu", -1.0, -0.15865525393145707, -0.08331547058768632),
        ("silu", 0.0, 0.0, 1 / 2),
        ("silu", math.log(3), 3 / 4 * math.log(3), 3 / 4 + 3 / 16 * math.log(3)),
    ],
)
def test_activation_by_hand(name, z, value, derivative):
    z = np.array([z])
    assert ref.activation(name, z) == pytest.approx(value, rel=1e-14, abs=0)
    assert ref.activation_derivative(name, z) == pytest.approx(derivative, rel=1e-14, abs=0)


LOG3 = math.log(3)  # as a logit against 0: probability 3/4 against 1/4


@pytest.mark.parametrize(
    ("name", "z", "t", "loss", "delta"),
    [
        ("cross_entropy", [[0, LOG3]], [1], math.log(4 / 3), [[1 / 4, -1 / 4]]),
        ("cross_entropy", [[0, LOG3]], [0], math.log(4), [[-3 / 4, 3 / 4]]),
        (
            "cross_entropy",  # labels of two samples: each counts half
            [[0, LOG3], [0, LOG3]],
            [1, 0],
            (math.log(4 / 3) + math.log(4)) / 2,
            [[1 / 8, -1 / 8], [-3 / 8, 3 / 8]],
        ),
        ("cross_entropy", [[0, LOG3]], [[0.5, 0.5]], math.log(16 / 3) / 2, [[-1 / 4, 1 / 4]]),
        # probabilities that sum to 1/2 count half
        ("cross_entropy", [[0, LOG3]], [[0.0, 0.5]], math.log(4 / 3) / 2, [[1 / 8, -1 / 8]]),
        ("bce_with_logits", [[LOG3]], [[1]], math.log(4 / 3), [[-1 / 4]]),
        ("bce_with_logits", [[-LOG3]], [0], math.log(4 / 3), [[1 / 4]]),  # t is (B,)
        (
            "bce_with_logits",
            [[LOG3, 0]],
            [[0, 0.5]],
            (math.log(4) + math.log(2)) / 2,
            [[3 / 8, 0]],
        ),
        ("mse", [[3, 1], [0, 0]], [[1, 1], [4, 2]], 24 / 4, [[1, 0], [-2, -1]]),
        ("mse", [[3], [0]], [1, 4], 10, [[2], [-4]]),  # t is (B,)
        ("mae", [[3, 1], [0, 0]], [[1, 1], [4, 2]], 8 / 4, [[1 / 4, 0], [-1 / 4, -1 / 4]]),
        (
            "huber",  # 2 -> 3/2, 1/2 -> 1/8, -1 -> 1/2, -4 -> 7/2
            [[2, 0.5], [0, 0]],
            [[0, 0], [1, 4]],
            (3 / 2 + 1 / 8 + 1 / 2 + 7 / 2) / 4,
            [[1 / 4, 1 / 8], [-1 / 4, -1 / 4]],
        ),
    ],
)
def test_loss_by_hand(name, z, t, loss, delta):
    value, dz = ref.loss_and_delta(name, np.array(z, dtype=np.float64), t)
    assert isinstance(value, float)
    assert value == pytest.approx(loss, rel=1e-14)
    np.testing.assert_allclose(dz, delta, rtol=1e-14, atol=1e-16)


def test_weighted_loss_by_hand():
    z, t = np.array([[3.0, 1.0], [0.0, 0.0]]), np.array([[1.0, 1.0], [4.0, 2.0]])
    value, dz = ref.loss_and_delta("mse", z, t, [3, 1])  # the samples' own losses: 2 and 10
    assert value == pytest.approx((3 * 2 + 1 * 10) / 4, rel=1e-15)
    np.testing.assert_allclose(dz, [[3 / 4 * 2, 0], [1 / 4 * -4, 1 / 4 * -2]], rtol=1e-15)


def test_gradients_by_hand():
    # z1 = (1 - 1, 2 + 1) = (0, 3), a1 = relu = (0, 3), z2 = 6 - 1 = 5; mse to 3 is 4, dz2 = 4,
    # da1 = (20, 8), and relu'(0) = 0 stops the first.
    params = [
        (np.array([[1.0, 2.0]]), np.array([-1.0, 1.0])),
        (np.array([[5.0], [2.0]]), np.array([-1.0])),
    ]
    value, grads = ref.gradients(params, np.array([[1.0]]), np.array([3.0]), ["relu"], "mse")
    assert value == 4
    np.testing.assert_array_equal(flat(grads), [0, 8, 0, 8, 0, 12, 4])


def test_sgd_by_hand():
    # The first step takes the gradient whole: buffer 2, p 1 - 0.1 * 2; then 0.5 * 2 + 0.75 * 4 = 4.
    params = [(np.array([[1.0]]), np.array([1.0]))]
    state = ref.init_state("SGD", params)
    hyper = {"lr": 0.1, "momentum": 0.5, "dampening": 0.25}
    for g in (2.0, 4.0):
        ref.update("SGD", params, [(np.full((1, 1), g), np.full(1, g))], state, hyper)
    assert state["step"] == 2
    np.testing.assert_allclose(flat(state["momentum_buffer"]), 4, rtol=1e-15)
    np.testing.assert_allclose(flat(params), 1 - 0.2 - 0.4, rtol=1e-15)


@pytest.mark.parametrize("name", ["Adam", "AdamW"])
def test_first_adam_step_by_hand(name):
    # Whatever the gradient's size, m / sqrt(v) is its sign; AdamW first shrinks p by lr * decay.
    params = [(np.array([[1.0, 1.0]]), np.array([2.0]))]
    grads = [(np.array([[1e3, -1e-3]]), np.array([5.0]))]
    hyper = {"lr": 0.1, "eps": 0.0} | ({"weight_decay": 0.5} if name == "AdamW" else {})
    state = ref.init_state(name, params)
    ref.update(name, params, grads, state, hyper)
    shrunk = 0.95 if name == "AdamW" else 1.0
    np.testing.assert_allclose(flat(params), shrunk * np.array([1, 1, 2]) - [0.1, -0.1, 0.1])
    np.testing.assert_allclose(flat(state["exp_avg"]), [1e2, -1e-4, 0.5])
    np.testing.assert_allclose(flat(state["exp_avg_sq"]), [1e3, 1e-9, 0.025])


def test_links_by_hand():
    z = np.array([[0, LOG3]])
    np.testing.assert_allclose(ref.link("cross_entropy", z), [[1 / 4, 3 / 4]], rtol=1e-15)
    np.testing.assert_allclose(ref.link("bce_with_logits", z), [[1 / 2, 3 / 4]], rtol=1e-15)
    for loss in ("mse", "mae", "huber"):
        np.testing.assert_array_equal(ref.link(loss, z), z)


# ---------------------------------------------------------------------------------- properties


@pytest.mark.parametrize("target", TARGETS)
def test_integer_weights_repeat_samples(rng, target):
    activations = ["tanh", "silu"]
    params, x, t, loss = draw_problem(rng, target, activations)
    counts = np.array([0, 1, 2, 0, 3, 1, 1, 2])
    value, grads = ref.gradients(params, x, t, activations, loss, counts)
    rows = np.repeat(np.arange(8), counts)
    expected, expected_grads = ref.gradients(params, x[rows], t[rows], activations, loss)
    assert value == pytest.approx(expected, rel=1e-13)
    assert_near(flat(grads), flat(expected_grads), 1e-13)


def test_labels_are_one_hot_rows(rng):
    z, t = rng.standard_normal((8, 4)), rng.integers(0, 4, 8)
    value, dz = ref.loss_and_delta("cross_entropy", z, t)
    soft_value, soft_dz = ref.loss_and_delta("cross_entropy", z, np.eye(4, dtype=np.int64)[t])
    assert value == soft_value
    np.testing.assert_array_equal(dz, soft_dz)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nothing_overflows_far_out(dtype):
    with np.errstate(over="raise", divide="raise", invalid="raise"):
        z = np.array([-1e3, 1e3], dtype=dtype)
        for name in ref.ACTIVATIONS:
            assert np.isfinite(ref.activation(name, z)).all(), name
            if name in ("sin", "softsign"):  # slopes that have no limit, or reach it as 1 / z^2
                continue
            left = {"identity": 1, "leaky_relu": 0.01}.get(name, 0)
            right = {"sigmoid": 0, "tanh": 0, "hardtanh": 0, "selu": ref.SELU[0]}.get(name, 1)
            slopes = np.array([left, right], dtype=dtype)
            np.testing.assert_array_equal(ref.activation_derivative(name, z), slopes, name)
        pair = z[None, :]
        assert ref.loss_and_delta("cross_entropy", pair, [0])[0] == 2000
        assert ref.loss_and_delta("cross_entropy", pair, [1])[0] == 0
        assert ref.loss_and_delta("bce_with_logits", pair, [[1, 0]])[0] == 1000
        assert ref.loss_and_delta("bce_with_logits", pair, [[0, 1]])[0] == 0
        np.testing.assert_array_equal(ref.link("cross_entropy", pair), [[0, 1]])
        np.testing.assert_array_equal(ref.link("bce_with_logits", pair), [[0, 1]])


def test_small_numbers_keep_their_digits():
    # The textbook forms add these small numbers to 1, or take them off it, and lose them
    near = functools.partial(pytest.approx, rel=1e-12, abs=0)
    z = np.array([-30.0])
    assert ref.activation("gelu", z) == near(-30 * 4.906713927148187e-198)  # Phi(-30)
    assert ref.activation_derivative("sigmoid", -z) == near(math.exp(-30))
    assert ref.activation_derivative("tanh", z) == near(4 * math.exp(-60))
    assert ref.activation("elu", z * 1e-18) == near(-30e-18)
    assert ref.loss_and_delta("bce_with_logits", z[None], [[0]])[0] == near(math.exp(-30))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ref.ACTIVATIONS)
def test_float32_stays_float32_and_is_near_float64(rng, name, target):
    activations = [name, name]
    params, x, t, loss = draw_problem(rng, target, activations)
    w = rng.exponential(size=len(x))
    single = [(W.astype(np.float32), b.astype(np.float32)) for W, b in params]
    value, grads = ref.gradients(single, x, t, activations, loss, w)  # x, t, w are float64
    expected, expected_grads = ref.gradients(params, x, t, activations, loss, w)
    assert {array.dtype for pair in grads for array in pair} == {np.dtype(np.float32)}
    layers = ref.forward(single, x, activations)
    assert {array.dtype for pair in layers for array in pair} == {np.dtype(np.float32)}
    assert ref.link(loss, layers[-1][0]).dtype == np.float32
    assert value == pytest.approx(expected, rel=1e-5)
    assert_near(flat(grads), flat(expected_grads), 1e-5)


def test_a_name_per_hidden_layer_is_required(rng):
    params = draw_params(rng, [3, 4, 2])
    for activations in ([], ["relu", "relu"]):
        with pytest.raises(ValueError, match="zip"):
            ref.forward(params, np.ones((1, 3)), activations)


# -------------------------------------------------------------------------------- against torch

OPTIMIZER_CASES = [
    ("SGD", {}),
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.5}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.5, "weight_decay": 0.1}),
    ("Adam", {}),
    ("Adam", {"lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-3}),
    ("Adam", {"lr": 0.01, "weight_decay": 0.1}),
    ("AdamW", {}),
    ("AdamW", {"lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.3}),
    ("AMSGrad", {"betas": (0.8, 0.9), "weight_decay": 0.1}),
    ("NAdam", {}),
    ("NAdam", {"lr": 0.01, "betas": (0.8, 0.9), "weight_decay": 0.1, "momentum_decay": 0.1}),
    ("NAdam", {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("RAdam", {}),
    ("RAdam", {"lr": 0.01, "betas": (0.8, 0.9), "weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("Adamax", {}),
    ("Adamax", {"lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.1}),
    ("RMSprop", {}),
    ("RMSprop", {"momentum": 0.9, "centered": True, "alpha": 0.8, "weight_decay": 0.1}),
    ("Adagrad", {}),
    ("Adagrad", {"lr_decay": 0.1, "weight_decay": 0.1, "eps": 1e-3}),
    ("Adadelta", {}),
    ("Adadelta", {"lr": 0.5, "rho": 0.8, "eps": 1e-3, "weight_decay": 0.1}),
]


@pytest.fixture
def float64_scalars():
    """torch keeps NAdam's product of momenta in its default type."""
    torch = pytest.importorskip("torch")
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def torch_leaves(torch, params):
    """The arrays of params, flat, as torch leaves that do not share memory with them."""
    return [torch.tensor(array, requires_grad=True) for pair in params for array in pair]


def torch_loss(torch, leaves, x, t, activations, loss, w=None):
    functional = torch.nn.functional
    functions = {
        "identity": torch.nn.Identity(),
        "gelu_tanh": lambda z: functional.gelu(z, approximate="tanh"),
        "sin": torch.sin,
        "softplus": lambda z: functional.softplus(z, threshold=700),
    }
    a = torch.from_numpy(x)
    names = [*activations, "identity"]
    for W, b, name in zip(leaves[::2], leaves[1::2], names, strict=True):
        a = functions.get(name, getattr(functional, name, None))(a @ W + b)
    torch_names = {
        "bce_with_logits": "binary_cross_entropy_with_logits",
        "mse": "mse_loss",
        "mae": "l1_loss",
        "huber": "huber_loss",
    }
    function = getattr(functional, torch_names.get(loss, loss))
    if w is None:
        return function(a, torch.from_numpy(t))
    values = function(a, torch.from_numpy(t), reduction="none").reshape(len(x), -1).mean(1)
    w = torch.from_numpy(w)
    return (w * values).sum() / w.sum()


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ref.ACTIVATIONS)
def test_loss_and_gradients_are_torch(rng, name, target, weighted):
    torch = pytest.importorskip("torch")
    activations = [name, name]
    # an odd batch, so that the signs in mae's gradient cannot add up to 0
    params, x, t, loss = draw_problem(rng, target, activations, batch=7)
    w = rng.exponential(size=len(x)) if weighted else None
    value, grads = ref.gradients(params, x, t, activations, loss, w)
    leaves = torch_leaves(torch, params)
    expected = torch_loss(torch, leaves, x, t, activations, loss, w)
    expected.backward()
    assert value == pytest.approx(expected.item(), rel=1e-12)
    gradient = [array for pair in grads for array in pair]
    for i, (g, leaf) in enumerate(zip(gradient, leaves, strict=True)):
        assert np.abs(g).max() > 0, f"array {i} has no gradient to compare"
        assert_near(g, leaf.grad.numpy(), 1e-12)


@pytest.mark.parametrize("name", sorted(KINKED_ACTIVATIONS))
def test_derivative_at_the_kink_is_torch(name):
    torch = pytest.importorskip("torch")
    z = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    getattr(torch.nn.functional, name)(z).backward()
    assert ref.activation_derivative(name, np.zeros(1)) == z.grad.numpy()


@pytest.mark.usefixtures("float64_scalars")
@pytest.mark.parametrize(("name", "hyper"), OPTIMIZER_CASES, ids=str)
def test_ten_steps_are_torch(rng, name, hyper):
    torch = pytest.importorskip("torch")
    params = draw_params(rng, SIZES)
    leaves = torch_leaves(torch, params)
    extra = {"SGD": {"lr": 0.01}, "AMSGrad": {"amsgrad": True}}.get(name, {})
    kind = getattr(torch.optim, "Adam" if name == "AMSGrad" else name)
    optimizer = kind(leaves, **extra | hyper)
    state = ref.init_state(name, params)
    for _ in range(10):
        grads = draw_params(rng, SIZES)  # anything will do
        for leaf, g in zip(leaves, (g for pair in grads for g in pair), strict=True):
            leaf.grad = torch.from_numpy(g.copy())
        optimizer.step()
        ref.update(name, params, grads, state, hyper)
        for leaf, p in zip(leaves, (p for pair in params for p in pair), strict=True):
            assert_near(p, leaf.detach().numpy(), 1e-12)
    assert state["step"] == 10
    for slot in set(state) - {"step"}:
        if slot == "momentum_buffer" and "momentum" not in hyper:
            assert name == "RMSprop" or not flat(state[slot]).any()  # torch keeps None
            continue
        if slot == "grad_avg" and "centered" not in hyper:
            assert not flat(state[slot]).any()
            continue
        theirs = np.concatenate([optimizer.state[leaf][slot].numpy().ravel() for leaf in leaves])
        assert_near(flat(state[slot]), theirs, 1e-12)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    ("name", "hyper"),
    [
        ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
        ("Adam", {"lr": 0.01}),
        ("AdamW", {"lr": 0.01}),
    ],
    ids=str,
)
def test_training_is_torch(rng, name, hyper, target):
    torch = pytest.importorskip("torch")
    activations = ["tanh", "gelu"]
    params, x, t, loss = draw_problem(rng, target, activations, batch=23)
    w = rng.exponential(size=23)
    leaves = torch_leaves(torch, params)
    optimizer = getattr(torch.optim, name)(leaves, **hyper)
    batches = [b for _ in range(2) for b in np.split(rng.permutation(23), [5, 10, 15, 20])]
    assert {len(rows) for rows in batches} == {5, 3}  # the last is ragged
    start = copies(params)
    losses = ref.train(params, x, t, activations, loss, name, hyper, batches, sample_weight=w)
    expected = []
    for rows in batches:
        optimizer.zero_grad()
        value = torch_loss(torch, leaves, x[rows], t[rows], activations, loss, w[rows])
        value.backward()
        optimizer.step()
        expected.append(value.item())
    np.testing.assert_allclose(losses, expected, rtol=1e-10)
    trained = np.concatenate([leaf.detach().numpy().ravel() for leaf in leaves])
    assert_near(flat(params), trained, 1e-10)
    assert np.linalg.norm(flat(params) - flat(start)) > 1e-2


@pytest.mark.parametrize("loss", LOSSES)
def test_training_learns(rng, loss):
    """Twenty full-batch steps lower the loss on what a network of the same shape produced."""
    activations = ["tanh", "tanh"]
    teacher, x = draw_params(rng, SIZES), rng.standard_normal((64, SIZES[0]))
    t = ref.link(loss, ref.forward(teacher, x, activations)[-1][0])
    params = draw_params(rng, SIZES)
    every = np.arange(64)
    losses = ref.train(params, x, t, activations, loss, "Adam", {"lr": 0.01}, [every] * 20)
    assert losses[-1] < losses[0]
