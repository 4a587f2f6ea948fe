"""Dropout: the generator's bits, their quality, and that a training step drops what the reference drops."""

import harness as h
import numpy as np
import pytest
from numba import njit
from oracle import EVERYTHING, MIXED, Oracle, mixed, one_step, shaken

import fastbp as fb
from fastbp import preparation
from fastbp.kernels import reference as ref
from fastbp.kernels.cpu import layers
from fastbp.kernels.cpu.records import Draw, Origin
from fastbp.kernels.cpu.simd import lanes_of, pointer


@njit
def drop(a, slope, rows, first, column, seed, step, place, rate):
    vectors = a.shape[1] // lanes_of(pointer(a))
    layers.dropout(rows, vectors, h.matrix(a), pointer(slope), Origin(first, column),
                   Draw(seed, step, place, rate))  # fmt: skip


@pytest.mark.parametrize("dtype", h.DTYPES)
def test_masks_are_the_references_to_the_bit(rng, dtype):
    """Any seed and step of 64 bits; any cut of the rows and columns."""
    h.load(dtype)
    for rate in (1e-9, 0.1, 0.5, 0.9, 0.9999):
        seed, step = int(rng.integers(2**63 - 1)), int(rng.integers(2 ** rng.integers(1, 60)))
        place, rows, columns = int(rng.integers(9)), int(rng.integers(1, 40)), int(rng.integers(1, 90))
        first, column = int(rng.integers(rows)), int(rng.integers(columns))
        mask = ref.dropout_mask(rate, seed, step, place, rows, columns)[first:, column:].astype(dtype)
        a, slope = rng.standard_normal((2, *mask.shape)).astype(dtype)
        block, other = h.padded(a, dtype), h.padded(slope, dtype)
        limit = int(np.floor(rate * 2**32 + 0.5))
        drop(block, other, len(a), first, column, seed, step, place, limit)
        for got, value in ((block, a), (other, slope)):
            assert np.array_equal(got[:, : a.shape[1]], value * mask)
        drop(block, block, len(a), first, column, seed, step, place, limit)  # the same array: scaled once
        assert np.array_equal(block[:, : a.shape[1]], a * mask * mask)


def test_shares_of_what_is_dropped(rng):
    """The rate, in all, in every row and in every column: within six deviations."""
    for rate in (0.05, 0.3, 0.5, 0.8):
        dropped = ref.dropout_mask(rate, int(rng.integers(2**62)), 7, 1, 500, 400) == 0
        for axis, count in ((None, 200_000), (0, 500), (1, 400)):
            assert np.abs(dropped.mean(axis=axis) - rate).max() < 6 * np.sqrt(rate * (1 - rate) / count)


def test_bits_look_independent(rng):
    """Every bit is fair, and agrees as often as not with its neighbour in each direction of the counter."""
    seed, step = int(rng.integers(2**62)), int(rng.integers(1, 2**40))
    shape = (256, 256)
    base = ref.dropout_bits(seed, step, 1, *shape)
    neighbours = {
        "row": ref.dropout_bits(seed, step, 1, 257, 256)[1:],
        "column": ref.dropout_bits(seed, step, 1, 256, 257)[:, 1:],
        "step": ref.dropout_bits(seed, step + 1, 1, *shape),
        "layer": ref.dropout_bits(seed, step, 2, *shape),
        "seed": ref.dropout_bits(seed + 1, step, 1, *shape),
        "high seed": ref.dropout_bits(seed ^ 1 << 40, step, 1, *shape),
        "high step": ref.dropout_bits(seed, step ^ 1 << 33, 1, *shape),
        "none": np.zeros(shape, np.uint32),
    }
    limit = 6 * 0.5 / 256  # deviations of a mean of 65,536 fair bits
    for name, other in neighbours.items():
        for shift in (0, 1, 7):
            turned = (other >> np.uint32(shift)) | (other << np.uint32((32 - shift) % 32))
            apart = np.unpackbits((base ^ turned)[..., None].view(np.uint8), axis=-1)
            assert np.abs(apart.mean(axis=(0, 1)) - 0.5).max() < limit, (name, shift)
    # pairs of neighbours fill a 16 x 16 table evenly: chi-square of 255 degrees within six deviations
    for name in ("row", "column", "step", "layer"):
        table = np.bincount(((base >> 28) * 16 + (neighbours[name] >> 28)).ravel(), minlength=256)
        chi = ((table - 256.0) ** 2 / 256).sum()
        assert abs(chi - 255) < 6 * np.sqrt(2 * 255), name
    assert len(np.unique(base)) > 65_536 - 20  # by chance 0.5 pairs are alike


# --- in training


@pytest.mark.parametrize("clip_norm", [None, 1e9])
@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
@pytest.mark.parametrize("case", ["dropout", "inputs", "layer", "batch", "residual", "everything"])
def test_a_training_step_drops_what_the_reference_drops(rng, case, loss, clip_norm):
    """Loss and gradient of a step, fused and not, with the reference's masks, for relu and smooth ones."""
    options = {
        "dropout": {"dropout": [0.3, 0.6, 0.1]},
        "inputs": {"input_dropout": 0.3, "embeddings": {0: (3, 5)}},
        "layer": {"dropout": 0.3, "norm": "layer"},
        "batch": {"dropout": 0.3, "norm": "batch"},
        "residual": {"dropout": 0.3, "residual": True},
        "everything": EVERYTHING,
    }[case]
    for activation in ("relu", "tanh", "gelu", "prelu"):
        net = shaken(fb.MLP([6, 20, 20, 20, 3], activation, **options, seed=1, dtype="float64"), rng)
        X = mixed(rng, 23, 6, net.embedded, float)
        y = rng.integers(0, 3, 23) if loss == "cross_entropy" else rng.standard_normal((23, 3))
        seed, before = int(rng.integers(2**62)), int(rng.integers(2**40))
        exact_value, exact = Oracle(net).gradients(X, y, loss, seed, before + 1)
        value, found = one_step(net, X, y, loss, clip_norm, seed, before)
        assert value == pytest.approx(exact_value, rel=1e-12)
        assert h.relative(found, exact) < 1e-11


@pytest.mark.parametrize("frozen", [(), (0,), (2,), (1, 2), (0, 2), (0, 1)])
@pytest.mark.parametrize("path", ["fused", "clip_norm", "hook"])
def test_frozen_layers_and_hooks(rng, path, frozen):
    """A frozen layer stays, its embeddings and running statistics too; all others learn as the reference.

    On the third path a hook stands between the gradients and the update; it is a step of training as well.
    """
    net = shaken(fb.MLP([6, 20, 20, 20, 3], MIXED, **EVERYTHING, seed=1, dtype="float64"), rng)
    net.running_means[2][:], net.running_vars[2][:] = rng.standard_normal(20), rng.uniform(0.5, 2, 20)
    X, y = mixed(rng, 23, 6, net.embedded, float), rng.integers(0, 3, 23)
    start = {name: view.copy() for name, view in net.named_views(net.params).items()}
    exact_value, exact = Oracle(net.freeze(*frozen)).gradients(X, y, "cross_entropy", 3, 8, frozen=frozen)
    seen = []
    value, found = one_step(net, X, y, "cross_entropy", 1e9 if path == "clip_norm" else None, 3, 7,
                            seen.append if path == "hook" else None)  # fmt: skip
    assert value == pytest.approx(exact_value, rel=1e-12)
    assert h.relative(found, exact) < 1e-11
    assert len(seen) == (path == "hook")
    for name, view in net.named_views(net.params).items():
        stays = 0 in frozen if name.startswith("embeddings") else int(name[-1]) in frozen
        if stays or name != "biases.2":  # which batch norm takes out again: its gradient is rounding
            assert np.array_equal(view, start[name]) == stays, name


def test_masks_change_from_step_to_step(rng):
    """Two identical rows in two batches meet other masks; the same seed meets the same ones."""
    X, y = np.ones((2, 5)), np.zeros(2, int)
    nets = [fb.MLP([5, 40, 2], dropout=0.5, seed=0, dtype="float64") for _ in range(3)]
    losses = []
    for net, seed in zip(nets, (1, 1, 2), strict=True):
        trainer = fb.Trainer(net, optimizer=fb.SGD(1e-300), batch_size=1, seed=seed)
        losses.append([trainer.fit(X, y, shuffle=False).history["loss"][0] for _ in range(4)])
    assert losses[0] == losses[1] and losses[0] != losses[2] and len(set(losses[0])) == 4


# --- in predictions


def samples_of(net, X, seed, count, link, block=256):
    """(count, N, O) by the reference: sample k drops block b of the rows by the number (k + 1) 2**32 + b."""
    oracle, starts = Oracle(net), range(0, len(X), block)
    return np.array(
        [
            ref.link(link, np.concatenate(
                [oracle.outputs(X[s : s + block], seed, (k + 1 << 32) + s // block) for s in starts]
            ))
            for k in range(count)
        ]
    )  # fmt: skip


@pytest.mark.parametrize("dtype", h.DTYPES)
@pytest.mark.parametrize("activation", ["relu", "gelu", "prelu"])
def test_predictions_with_dropout(rng, dtype, activation):
    """The reference's masks and running statistics; the same bits on any number of threads, for a part of the
    rows, and for fewer samples; and nothing stays dropped."""
    net = fb.MLP([6, 20, 20, 20, 3], activation, **EVERYTHING, seed=1, dtype=dtype)
    shaken(net, rng).running_means[2][:] = rng.standard_normal(20)
    X, seed = mixed(rng, 600, 6, net.embedded, dtype), int(rng.integers(2**62))
    trainer = fb.Trainer(net, seed=seed, threads=1)
    hidden, plain, found = trainer.activations(X), trainer.predict(X), trainer.predict(X, samples=3)
    exact = samples_of(net, X, seed, 3, "cross_entropy")
    assert found.shape == (3, 600, 3) and found.dtype == dtype
    assert h.relative(found, exact) < {"float64": 1e-11, "float32": 2e-5}[dtype]
    assert np.array_equal(trainer.activations(X), hidden)
    assert np.array_equal(trainer.predict(X), plain) and np.array_equal(trainer.predict(X[:2]), plain[:2])
    for threads, rows, count in ((2, 600, 3), (4, 300, 3), (1, 1, 2), (2, 37, 1)):
        again = fb.Trainer(net, seed=seed, threads=threads).predict(X[:rows], samples=count)
        assert np.array_equal(again, found[:count, :rows])
    trainer.seed += 1
    assert not np.array_equal(trainer.predict(X, samples=3), found)


def test_their_mean_is_the_prediction(rng):
    """Of a network without kinks: within six deviations of the mean."""
    net = fb.MLP([5, 30, 2], "identity", dropout=0.4, input_dropout=0.1, seed=0, dtype="float64")
    trainer, X = fb.Trainer(net, "mse", seed=3), rng.standard_normal((20, 5))
    found = trainer.predict(X, samples=3000)
    limit = 6 * found.std(axis=0) / np.sqrt(3000)
    assert (np.abs(found.mean(axis=0) - trainer.predict(X)) < limit).all()
    assert np.abs(np.corrcoef(found[:-1, 0, 0], found[1:, 0, 0])[0, 1]) < 6 / np.sqrt(3000)


def test_samples_of_everything_that_predicts(rng):
    """A preparation, in the target's unit; the average of the weights; sparse rows; single precision."""
    from scipy import sparse

    X, y = 5 + 3 * rng.standard_normal((80, 4)), 100 + 20 * rng.standard_normal((80, 1))
    trainer = fb.Trainer(fb.MLP([4, 16, 1], dropout=0.5, seed=0), "mse", ema=0.9, seed=1)
    trainer.preparation = preparation.Preparation.fit(X, y)
    trainer.fit(X, y, epochs=3)
    found = trainer.predict(X, samples=50)
    assert found.shape == (50, 80, 1) and abs(found.mean() - 100) < 20 and found.std(axis=0).min() > 0
    assert not np.array_equal(found, trainer.predict(X, samples=50, ema=False))
    plain = fb.Trainer(trainer.averaged_net(), "mse", seed=1)
    rows = trainer.preparation.transform(X)
    scaled = plain.predict(rows, samples=50) * trainer.preparation.y_scale + trainer.preparation.y_mean
    np.testing.assert_allclose(found, scaled, rtol=1e-6)
    few = plain.predict(sparse.csr_matrix(rows), samples=2)
    assert np.array_equal(few, plain.predict(rows, samples=2))


@pytest.mark.parametrize("samples,match", [(0, "samples: got 0"), (2.5, "samples: got 2.5"), (-1, "samples")])
def test_what_samples_may_be(samples, match):
    trainer = fb.Trainer(fb.MLP([2, 4, 2], dropout=0.5, seed=0))
    with pytest.raises((ValueError, TypeError), match=match):
        trainer.predict(np.ones((3, 2)), samples=samples)


def test_samples_of_a_network_without_dropout_are_refused():
    trainer = fb.Trainer(fb.MLP([2, 4, 2], seed=0))
    with pytest.raises(ValueError, match="samples: got 5 for a network without dropout, takes None"):
        trainer.predict(np.ones((3, 2)), samples=5)
