"""Losses: the reference against torch and central differences, kernels and Trainer against the reference."""

import itertools

import draw
import harness as h
import numpy as np
import pytest

import fastbp as fb
from fastbp.kernels import codes
from fastbp.kernels.cpu.simd import host_target
from fastbp.network.layout import align, arena

ALL = [*draw.VARIANTS, *draw.weighted(3)]


def variant_loss(variant, outputs):
    return draw.VARIANTS.get(variant) or draw.weighted(outputs)[variant]


@pytest.fixture(params=h.DTYPES)
def dtype(request):
    h.load(request.param)
    return request.param


# ------------------------------------------------------------- the reference, against torch and differences


@pytest.mark.parametrize("variant", ALL)
def test_reference_is_torch(rng, variant):
    torch = pytest.importorskip("torch")
    loss, outputs = variant_loss(variant, 6), 6
    t = draw.targets(rng, variant, 9, outputs)
    z = draw.outputs_off_kinks(rng, loss.name, t, outputs, 1e-6, **draw.constants(loss))
    if (
        variant == "cross_entropy/smooth weights"
    ):  # our mean leaves nothing of a class of weight 0, torch some
        assert min(loss.class_weight) > 0
    value, delta = draw.exact(variant, loss, z, t)
    leaf = torch.from_numpy(z).requires_grad_()
    theirs = draw.torch_loss(torch, variant, loss, leaf, torch.from_numpy(t))
    theirs.backward()
    assert value == pytest.approx(theirs.item(), rel=1e-12)
    np.testing.assert_allclose(delta, leaf.grad.numpy(), rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("variant", ALL)
def test_reference_gradient_is_central_differences(rng, variant):
    loss, outputs, step = variant_loss(variant, 4), 4, 1e-5
    t, weight = draw.targets(rng, variant, 5, outputs), rng.exponential(size=5)
    z = draw.outputs_off_kinks(rng, loss.name, t, outputs, 100 * step, **draw.constants(loss))
    delta = draw.exact(variant, loss, z, t, weight)[1]
    differences = np.zeros_like(z)
    for i in np.ndindex(z.shape):
        up, down = z.copy(), z.copy()
        up[i], down[i] = z[i] + step, z[i] - step
        up, down = (draw.exact(variant, loss, x, t, weight)[0] for x in (up, down))
        differences[i] = (up - down) / (2 * step)
    if variant == "gaussian_nll/eps":  # torch's rule where the variance is below eps: the slope goes on
        free = z[:, 2:] > np.log(loss.eps)
        delta, differences = (np.hstack([d[:, :2], d[:, 2:] * free]) for d in (delta, differences))
    np.testing.assert_allclose(delta, differences, rtol=1e-5, atol=1e-9)


# ------------------------------------------------------------------------------------------ the kernels


class Case:
    """A loss called on plain arrays, as the program calls it: everything padded, padding poisoned."""

    def __init__(self, variant, outputs, dtype, z, t):
        self.loss, self.outputs, self.dtype = variant_loss(variant, outputs), outputs, dtype
        self.code, targets = self.loss.targets(t, outputs)
        self.width = targets.shape[1]
        self.weight = self.loss.weights(None, targets, self.code)
        self.z, self.t = h.padded(z, dtype, np.nan), h.padded(targets, dtype, np.nan)
        self.numbers = arena(codes.LOSS_SCALARS + align(outputs, np.dtype(dtype).itemsize), dtype)
        self.numbers[:] = np.nan
        self.numbers[: codes.LOSS_SCALARS + outputs] = self.loss.numbers(outputs)

    def __call__(self, scale, rows=slice(None)):
        """(right answers, delta, losses); what is outside ``rows`` stays NaN."""
        count = len(self.z)
        delta, losses = h.poisoned(count, self.outputs, self.dtype), np.full(count, np.nan, self.dtype)
        hits = h.loss_rows(self.code, self.outputs, self.numbers, self.z[rows], self.t[rows], self.width,
                           delta[rows], losses[rows], scale[rows])  # fmt: skip
        return hits, delta, losses

    def link(self, rows=slice(None)):
        """(N + 1, outputs): the last row must not be touched."""
        count = len(self.z)
        buffer = h.poisoned(count, self.outputs, self.dtype)
        out = np.full((count + 1, self.outputs), np.nan, self.dtype)
        out_rows = out[:count][rows]
        h.link_rows(self.code, self.outputs, self.numbers, self.z[rows], buffer[rows], out_rows)
        return out


def padding(outputs, dtype):
    lanes = host_target().bytes // np.dtype(dtype).itemsize  # whole vectors are written
    return -(-outputs // lanes) * lanes


@pytest.mark.parametrize("variant", ALL)
def test_loss_and_gradient(rng, dtype, variant):
    for batch, outputs in itertools.product([1, 7, 33], [1, 2, 7, 8, 16, 17, 32, 33, 50, 100]):
        if not draw.fits(variant, outputs):
            continue
        loss = variant_loss(variant, outputs)
        t = draw.targets(rng, variant, batch, outputs)
        t = t if t.dtype.kind == "i" else t.astype(dtype)
        z = 2 * rng.standard_normal((batch, outputs))
        while draw.near_a_kink(loss.name, z, t, 1e-5, **draw.constants(loss)):
            z = 2 * rng.standard_normal((batch, outputs))
        z = z.astype(dtype)
        weight = rng.uniform(0.5, 2, batch).astype(dtype)
        case = Case(variant, outputs, dtype, z, t)
        mass = weight if case.weight is None else case.weight * weight
        scale = (mass / mass.sum(dtype=float)).astype(dtype)
        hits, delta, rows = case(scale)
        t64 = t if t.dtype.kind == "i" else t.astype(float)
        exact, exact_delta = draw.exact(variant, loss, z.astype(float), t64, weight.astype(float))
        # signed terms may cancel in the sum, as may p - t in a row that is nearly right
        least = 1.0 if loss.name == "cosine" else 1e-2  # 1 - cos
        size = max(np.abs(exact), np.abs(rows.astype(float)).sum(), least)
        assert abs(rows.sum(dtype=float) - exact) <= 4 * h.TOLERANCE[dtype] * size
        typical = scale if case.code in codes.RIGHT_BY_SAMPLE else 0.0
        typical = scale / np.linalg.norm(z, axis=1) if loss.name == "cosine" else typical
        typical = scale / np.sqrt(outputs) if case.code in codes.RIGHT_BY_OUTPUT else typical
        assert h.relative(delta[:, :outputs], exact_delta, typical) <= 3 * h.TOLERANCE[dtype]
        assert (delta[:, outputs : padding(outputs, dtype)] == 0).all()
        if case.code in codes.RIGHT_BY_SAMPLE:
            classes = t if t.ndim == 1 else t.argmax(axis=1)
            assert hits == (z.argmax(axis=1) == classes).sum()
        elif case.code in codes.RIGHT_BY_OUTPUT:
            yes = t > (0 if loss.name == "hinge" else 0.5)
            assert hits == ((z > 0) == yes).sum()


@pytest.mark.parametrize("variant", ALL)
def test_links(rng, dtype, variant):
    for outputs in (1, 2, 7, 8, 16, 17, 32, 33, 50, 100):
        if draw.fits(variant, outputs):
            z = 3 * rng.standard_normal((5, outputs)).astype(dtype)
            case = Case(variant, outputs, dtype, z, draw.targets(rng, variant, 5, outputs))
            got = case.link()
            exact = draw.exact_link(variant, case.loss, z.astype(float))
            assert h.relative(got[:5], exact) < h.TOLERANCE[dtype]
            assert np.isnan(got[5]).all()


@pytest.mark.parametrize("outputs", [2, 10, 16, 32, 34, 100])
@pytest.mark.parametrize("variant", ALL)
def test_bits_of_a_row_do_not_depend_on_the_rows_around_it(rng, dtype, variant, outputs):
    """Loss, gradient and link of 37 rows at once, and of each part of them alone; nothing else written."""
    z, t = rng.standard_normal((37, outputs)), draw.targets(rng, variant, 37, outputs)
    case, scale = Case(variant, outputs, dtype, z, t), rng.uniform(0.1, 1, 37).astype(dtype)
    total, *whole = *case(scale), case.link()
    found = 0
    for first, last in ((0, 1), (1, 3), (3, 19), (19, 36), (36, 37)):
        rows = slice(first, last)
        hits, *part = *case(scale, rows), case.link(rows)
        found += hits
        for one, all_rows in zip(part, whole, strict=True):
            assert np.array_equal(one[rows], all_rows[rows], equal_nan=True)
            one[rows] = np.nan
            assert np.isnan(one).all()
    assert found == total


@pytest.mark.parametrize("outputs", [4, 100])
@pytest.mark.parametrize("variant", ALL)
def test_rows_of_weight_zero_count_for_nothing(rng, dtype, variant, outputs):
    """Whatever their numbers: no loss, no gradient, no right answer."""
    z = rng.standard_normal((3, outputs))
    z[0], z[2] = np.nan, 1e30
    case = Case(variant, outputs, dtype, z, draw.targets(rng, variant, 3, outputs))
    hits, delta, rows = case(np.zeros(3, dtype))
    assert hits == 0 and (rows == 0).all() and (delta[:, :outputs] == 0).all()
    scale = np.array([0, 1, 0], dtype)
    hits, delta, rows = case(scale)
    alone, alone_delta, alone_rows = case(scale, slice(1, 2))
    assert hits == alone and rows[1] == alone_rows[1] and np.array_equal(delta[1], alone_delta[1], True)
    assert (rows[[0, 2]] == 0).all() and (delta[[0, 2], :outputs] == 0).all()


def test_cross_entropy_counts_a_tie_once(dtype):
    """All outputs equal: only class 0 may count as right, or a dead network would score 100 %."""
    for outputs in (5, 50):
        case = Case("cross_entropy", outputs, dtype, np.zeros((3, outputs)), np.array([0, 1, 4]))
        assert case(np.ones(3, dtype))[0] == 1


@pytest.mark.parametrize("variant", ALL)
def test_extreme_outputs_stay_finite(dtype, variant):
    name = variant.partition("/")[0]
    big = 30.0 if name in ("poisson_nll", "gamma_nll", "gaussian_nll") else 1e4
    for outputs in (4, 40):
        z, t = np.zeros((2, outputs)), np.zeros((2, outputs))
        z[:, :4] = [[big, -big, 0.0, 1.0], [-big, big, 5.0, -1.0]]
        t[:, 0], t[:, 1] = 1, 0
        loss = variant_loss(variant, outputs)
        if name == "gamma_nll":
            t += 0.5
        elif "labels" in variant or (name == "cross_entropy" and "soft" not in variant):
            t = np.array([0, 2])
        elif "soft" in variant:
            t[:, 1:3] = [0.5, 0.25], [0, 1]
            t /= t.sum(axis=1, keepdims=True)
        elif variant in draw.EVEN:
            t = t[:, : outputs // 2]
        case = Case(variant, outputs, dtype, z, t)
        mass = np.ones(2) if case.weight is None else case.weight
        hits, delta, rows = case((mass / mass.sum()).astype(dtype))
        exact, exact_delta = draw.exact(variant, loss, z, t)
        assert h.relative(rows.sum(dtype=float), exact) < 2 * h.TOLERANCE[dtype]
        assert h.relative(delta[:, :outputs], exact_delta) < 2 * h.TOLERANCE[dtype]


@pytest.mark.parametrize("variant", ALL)
def test_nan_outputs_give_nan_losses_and_no_right_answers(dtype, variant):
    for outputs, place in itertools.product((4, 40), range(4)):
        z = np.zeros((1, outputs))
        z[0, place] = np.nan
        t = np.zeros((1, outputs // 2 if variant in draw.EVEN else outputs))
        if "labels" in variant or (variant.startswith("cross_entropy") and "soft" not in variant):
            t = np.array([0])
        elif variant == "gamma_nll" or "soft" in variant:
            t += 1 / outputs
        case = Case(variant, outputs, dtype, z, t)
        hits, _, rows = case(np.ones(1, dtype))
        assert np.isnan(rows[0])
        assert hits == 0 if case.code in codes.RIGHT_BY_SAMPLE else hits < outputs


# ------------------------------------------------------------------------------------------- the Trainer


def network(rng, outputs, dtype):
    net = fb.MLP([7, 19, outputs], "tanh", seed=int(rng.integers(1000)), dtype=dtype)
    for b in net.biases:
        b[:] = rng.standard_normal(b.shape)
    return net


def forward64(net, X):
    (w, b), (v, c) = (
        (w.astype(float), b.astype(float)) for w, b in zip(net.weights, net.biases, strict=True)
    )
    hidden = np.tanh(X @ w + b)
    return hidden, hidden @ v + c


@pytest.mark.parametrize("outputs", [6, 40])
@pytest.mark.parametrize("variant", ALL)
def test_trainer(rng, variant, outputs):
    """Loss, accuracy, gradients of the top layer, predictions, with sample weights, some of them 0."""
    loss, net = variant_loss(variant, outputs), network(rng, outputs, "float64")
    X, y = rng.standard_normal((300, 7)), draw.targets(rng, variant, 300, outputs)
    weight = rng.uniform(0, 2, 300) * (rng.uniform(size=300) > 0.3)
    hidden, z = forward64(net, X)
    exact, delta = draw.exact(variant, loss, z, y, weight)
    trainer = fb.Trainer(net, loss)
    result = trainer.evaluate(X, y, weight)
    assert result["loss"] == pytest.approx(exact, rel=1e-11)
    value, grads = trainer.gradients(X, y, weight)
    assert value == pytest.approx(exact, rel=1e-11)
    assert h.relative(grads[1][0], hidden.T @ delta) < 1e-11
    assert h.relative(trainer.predict(X), draw.exact_link(variant, loss, z)) < 1e-12
    counts = weight > 0
    code = loss.targets(y, outputs)[0]
    if code in codes.RIGHT_BY_SAMPLE:
        classes = y if y.ndim == 1 else y.argmax(axis=1)
        assert result["accuracy"] == pytest.approx((z.argmax(axis=1) == classes)[counts].mean())
    elif code in codes.RIGHT_BY_OUTPUT:
        yes = y > (0 if loss.name == "hinge" else 0.5)
        assert result["accuracy"] == pytest.approx(((z > 0) == yes)[counts].mean())
    else:
        assert "accuracy" not in result


@pytest.mark.parametrize("variant", ALL)
def test_samples_of_weight_zero_might_as_well_not_be_there(rng, variant, tmp_path):
    """A fit with them and one without: the same bits; and after saving and loading, the same loss."""
    outputs = 6
    X, y = rng.standard_normal((40, 7)), draw.targets(rng, variant, 40, outputs)
    weight = rng.uniform(1, 2, 40) * (np.arange(40) % 3 > 0)
    kept, results = weight > 0, []
    for rows, batch in ((slice(None), 40), (kept, int(kept.sum()))):
        trainer = fb.Trainer(fb.MLP([7, 9, outputs], seed=3, dtype="float64"), variant_loss(variant, outputs),
                             batch_size=batch)  # fmt: skip
        history = trainer.fit(X[rows], y[rows], epochs=3, shuffle=False, sample_weight=weight[rows])
        results.append((trainer, history.history))
    (a, first), (b, second) = results
    assert first["loss"] == pytest.approx(second["loss"], rel=1e-12)
    assert first.get("accuracy") == second.get("accuracy")
    assert h.relative(a.net.params, b.net.params) < 1e-12
    a.save(tmp_path / "model.safetensors")
    loaded = fb.load(tmp_path / "model.safetensors")
    assert loaded.loss == a.loss and loaded.evaluate(X, y) == a.evaluate(X, y)


def test_ignored_labels_are_torchs(rng):
    torch = pytest.importorskip("torch")
    X, y, w = rng.standard_normal((50, 7)), rng.integers(0, 4, 50), np.array([0.5, 1, 2, 3])
    y[::5] = -100
    net = network(rng, 4, "float64")
    loss = fb.losses.CrossEntropy(0.1, w, ignore_index=-100)
    z = torch.from_numpy(forward64(net, X)[1])
    exact = torch.nn.functional.cross_entropy(
        z, torch.from_numpy(y), torch.from_numpy(w), label_smoothing=0.1, ignore_index=-100
    )
    trainer = fb.Trainer(net, loss)
    result = trainer.evaluate(X, y)
    assert result["loss"] == pytest.approx(exact.item(), rel=1e-12)
    known = y != -100
    assert result["accuracy"] == pytest.approx((z.numpy().argmax(1) == y)[known].mean())
    trainer.fit(X, y, epochs=2)
    assert np.isfinite(net.params).all()


@pytest.mark.parametrize(
    "make,match",
    [
        (lambda: fb.losses.CrossEntropy(1.0), "CrossEntropy label_smoothing: got 1.0, takes a number from 0"),
        (lambda: fb.losses.CrossEntropy(class_weight=[1, -1]), "class_weight: got .* takes numbers from 0"),
        (lambda: fb.losses.CrossEntropy(class_weight=[0, 0]), "class_weight: got only zeros"),
        (lambda: fb.losses.CrossEntropy(ignore_index=1.5), "ignore_index: got 1.5, takes a label"),
        (lambda: fb.losses.Huber(0), "Huber delta: got 0, takes a number above 0"),
        (lambda: fb.losses.Focal(-1), "Focal gamma: got -1, takes"),
        (lambda: fb.losses.Focal(alpha=1), "Focal alpha: got 1, takes"),
        (lambda: fb.losses.Quantile([0.5, 1]), "Quantile quantiles: got .* takes numbers between 0 and 1"),
        (lambda: fb.losses.Quantile([]), "Quantile quantiles: got"),
        (lambda: fb.losses.BCEWithLogits("x"), "BCEWithLogits pos_weight: got 'x', takes"),
        (lambda: fit(fb.losses.CrossEntropy(class_weight=[1, 2, 3])), "got 3 numbers, takes 4"),
        (lambda: fit(fb.losses.BCEWithLogits([1, 2])), "got 2 numbers, takes 4"),
        (lambda: fit(fb.losses.Quantile([0.1, 0.5, 0.9])), "got 3 for a network with 4 outputs"),
        (lambda: fit("gaussian_nll", outputs=3), "got 'gaussian_nll' for a network with 3 outputs"),
        (lambda: fit(fb.losses.Focal(alpha=0.5)), "Focal alpha: got 0.5 for 4 classes"),
        (lambda: fit("gamma_nll", np.zeros((5, 4))), "y: got 0.0, loss 'gamma_nll' takes numbers above 0"),
        (lambda: fit("poisson_nll", -np.ones((5, 4))), "y: got -1.0, loss 'poisson_nll' takes numbers"),
        (lambda: fit("gaussian_nll", np.ones((5, 4))), r"loss 'gaussian_nll' takes \(5, 2\)"),
        (lambda: fit("quantile", np.ones((5, 3))), r"loss 'quantile' takes \(5, 4\)"),
        (lambda: fit(fb.losses.Hinge(multi_label=True), np.full((5, 4), 2.0)), "'hinge' takes 1 for yes"),
        (lambda: fit("focal", np.full((5, 4), 0.25)), "loss 'focal' takes labels or one-hot rows"),
        (lambda: fit("hing"), "loss: got 'hing'; did you mean 'hinge'"),
    ],
)  # fmt: skip
def test_what_is_refused(make, match):
    with pytest.raises((ValueError, TypeError), match=match):
        make()


def fit(loss, y=None, outputs=4):
    X = np.ones((5, 3))
    fb.Trainer(fb.MLP([3, outputs], seed=0), loss).fit(X, np.zeros(5, int) if y is None else y)
