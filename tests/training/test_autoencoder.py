"""Autoencoders: tied weights against torch, the two halves, noise that is drawn again and again the same."""

import copy

import numpy as np
import pytest

import fastbp as fb
from fastbp.engine import backend
from fastbp.models.autoencoder import Autoencoder


@pytest.fixture
def X(rng):
    return (rng.standard_normal((64, 2)) @ rng.standard_normal((2, 9)) + 0.1).astype("f4")


@pytest.mark.parametrize(
    "optimizer", [fb.SGD(0.1), fb.SGD(0.1, momentum=0.9), fb.AdamW(0.01, weight_decay=0.1)]
)
def test_tied_weights_against_torch(rng, optimizer):
    """Twelve steps on shared weights; their gradient is what autograd says of both uses."""
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    X = rng.standard_normal((40, 9))
    a = Autoencoder(
        [9, 7, 4], tied=True, activation="tanh", code_activation="tanh", seed=1, dtype="float64",
        optimizer=optimizer, batch_size=11,
    )  # fmt: skip
    weights = [torch.tensor(w, requires_grad=True) for w in a.net.weights[:2]]
    biases = [torch.tensor(b, requires_grad=True) for b in a.net.biases]
    config = optimizer.config()
    theirs = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[config.pop("name")]
    theirs = theirs(weights + biases, **config)
    a.fit(X, 3, shuffle=False)
    for _ in range(3):
        for start in range(0, 40, 11):
            x = torch.from_numpy(X[start : start + 11])
            h = torch.tanh(torch.tanh(x @ weights[0] + biases[0]) @ weights[1] + biases[1])
            out = torch.tanh(h @ weights[1].T + biases[2]) @ weights[0].T + biases[3]
            theirs.zero_grad()
            functional.mse_loss(out, x).backward()
            theirs.step()
    assert a.trainer.steps == 12
    for k in range(2):
        assert np.allclose(a.net.weights[k], weights[k].detach().numpy(), rtol=1e-9, atol=1e-11)
        assert np.array_equal(a.net.weights[k], a.net.weights[-1 - k].T)  # tied to the last bit
    for mine, other in zip(a.net.biases, biases, strict=True):
        assert np.allclose(mine, other.detach().numpy(), rtol=1e-9, atol=1e-11)


def test_tied_weights_have_the_same_bits_for_any_number_of_threads(X):
    results = []
    for threads in (1, 2, 4):
        a = Autoencoder([9, 30, 3], tied=True, seed=0, threads=threads, batch_size=16)
        a.fit(X, 3)
        results.append(a.net.params)
    assert np.array_equal(results[0], results[1]) and np.array_equal(results[0], results[2])


@pytest.mark.parametrize("tied", [False, True])
def test_it_learns_and_its_halves_make_the_whole(X, tied):
    a = Autoencoder([9, 16, 2], tied=tied, seed=0, batch_size=16, optimizer=fb.Adam(0.01), activation="tanh")
    history = a.fit(X, 300, validation_split=0.25).history
    assert history["val_loss"][-1] < 0.4 * history["val_loss"][0]
    assert history["loss"][-1] < 0.2 * history["loss"][0]
    code = a.encode(X)
    assert code.shape == (64, 2) and np.array_equal(a.decode(code), a.reconstruct(X))
    a.fit(X)
    assert np.array_equal(a.decode(a.encode(X)), a.reconstruct(X))  # the halves follow the training
    assert a.trainer.evaluate(X, X)["loss"] == pytest.approx(np.mean((a.reconstruct(X) - X) ** 2), rel=1e-4)


def test_a_copy_of_a_tied_one_is_tied_itself(X):
    a = Autoencoder([9, 5, 2], tied=True, seed=0)
    b = copy.deepcopy(a)
    b.fit(X)
    assert np.array_equal(b.net.weights[0], b.net.weights[-1].T)
    assert not np.array_equal(a.net.params, b.net.params)


def test_noise_is_drawn_for_each_epoch_and_again_the_same(X, monkeypatch):
    seen = []
    windows = backend.Session.windows

    def spy(session, mode, *rest):
        if session._kept[1] is not None and len(session._kept[0]) == 48:
            seen.append((session._kept[0].copy(), session._kept[1].copy()))
        return windows(session, mode, *rest)

    monkeypatch.setattr(backend.Session, "windows", spy)

    def drawn(**options):
        seen.clear()
        a = Autoencoder([9, 5, 2], seed=3, **options)
        history = a.fit(X, 3, validation_split=0.25)
        assert len(seen) == 3 and all(np.array_equal(y, X[:48]) for _, y in seen)
        assert history.history["val_loss"][-1] == a.trainer.evaluate(X[48:], X[48:])["loss"]  # clean
        return [x for x, _ in seen], a.net.params

    first, weights = drawn(noise=0.5)
    second, again = drawn(noise=0.5)
    assert all(map(np.array_equal, first, second)) and np.array_equal(weights, again)
    noise = np.array(first) - X[:48]
    assert not np.array_equal(noise[0], noise[1]) and abs(noise.std() - 0.5) < 0.05
    masked, _ = drawn(mask=0.3)
    assert 0.2 < np.mean([x == 0 for x in masked]) < 0.4
    assert all(np.array_equal(x[x != 0], X[:48][x != 0]) for x in masked)


def test_denoising_takes_the_noise_out(rng):
    X = (rng.standard_normal((500, 1)) @ rng.standard_normal((1, 12))).astype("f4")
    noisy = X + rng.normal(0, 0.5, X.shape).astype("f4")
    a = Autoencoder([12, 8, 1], noise=0.5, seed=0, optimizer=fb.Adam(0.01), activation="tanh")
    a.fit(X, 40)
    assert np.mean((a.reconstruct(noisy) - X) ** 2) < 0.5 * np.mean((noisy - X) ** 2)


@pytest.mark.parametrize(
    "options,text",
    [
        ({"noise": -1}, "noise: got -1"),
        ({"mask": 1.0}, "mask: got 1.0"),
        ({"tied": True, "clip_norm": 1.0}, "clip_norm: got it with tied=True"),
    ],
)
def test_bad_arguments(options, text):
    with pytest.raises(ValueError, match=text):
        Autoencoder([9, 5, 2], **options)
