"""diagnose: its numbers against torch's autograd, its warnings on networks made to deserve them."""

import copy
import itertools

import numpy as np
import pytest

import fastbp as fb


def trainer(sizes, activation="relu", loss="cross_entropy", **options):
    return fb.Trainer(fb.MLP(sizes, activation, seed=0, dtype="float64"), loss, seed=0, **options)


def test_against_torch(rng):
    torch = pytest.importorskip("torch")
    X, y = rng.standard_normal((60, 5)), rng.integers(0, 3, 60)
    t = trainer([5, 20, 8, 3], "tanh", optimizer=fb.AdamW(0.02))
    t.fit(X, y, 2)
    got = t.diagnose(X, y)
    weights = [torch.tensor(w, requires_grad=True) for w in t.net.weights]
    a, outputs, inputs = torch.from_numpy(X), [], []
    for k, w in enumerate(weights):
        z = a @ w + torch.from_numpy(t.net.biases[k])
        z.retain_grad()
        a = torch.tanh(z) if k < 2 else z
        inputs.append(z), outputs.append(a)
    loss = torch.nn.functional.cross_entropy(a, torch.from_numpy(y))
    loss.backward()
    assert got.loss == pytest.approx(loss.item(), rel=1e-12) and got.rows == 60
    after = copy.deepcopy(t)
    after.train_on_batch(X, y)
    for k, r in enumerate(got.layers):
        values, dw, dz = outputs[k].detach().numpy(), weights[k].grad.numpy(), inputs[k].grad.numpy()
        assert (r.mean, r.std) == pytest.approx((values.mean(), values.std()), rel=1e-9, abs=1e-12)
        assert r.gradient == pytest.approx(np.linalg.norm(dw), rel=1e-9)
        assert (r.gradient_mean, r.gradient_std) == pytest.approx((dw.mean(), dw.std()), rel=1e-9, abs=1e-12)
        assert r.delta == pytest.approx(60 * np.sqrt((dz**2).mean()), rel=1e-9)
        assert r.weight == pytest.approx(np.linalg.norm(t.net.weights[k]), rel=1e-12)
        moved = np.linalg.norm(after.net.weights[k] - t.net.weights[k])
        assert r.update == pytest.approx(moved / r.weight, rel=1e-9)
    assert [r.saturated for r in got.layers][:2] == [
        pytest.approx((np.abs(o.detach().numpy()) > 0.96).mean()) for o in outputs[:2]
    ]


@pytest.mark.parametrize("options", [{}, {"clip_norm": 0.1}])
def test_nothing_changes(rng, options):
    X, y = rng.standard_normal((60, 5)), rng.integers(0, 3, 60)
    t = trainer([5, 20, 3], **options)
    t.fit(X, y)
    before = t.net.params.copy(), t.slots.copy(), t.steps, t.epochs
    t.diagnose(X, y, rows=10)
    assert np.array_equal(t.net.params, before[0]) and np.array_equal(t.slots, before[1])
    assert (t.steps, t.epochs) == before[2:]


def test_vanishing_and_exploding(rng):
    X, y = rng.standard_normal((100, 8)), rng.integers(0, 3, 100)
    deep = trainer([8, *[16] * 12, 3], "sigmoid").diagnose(X, y)
    assert any(w.startswith("vanishing gradients") and "relu" in w for w in deep.warnings)
    assert deep.layers[0].delta < 1e-3 * deep.layers[-1].delta
    wild = trainer([8, *[64] * 6, 3], "relu")
    for w in wild.net.weights[1:]:
        w *= 8
    wild = wild.diagnose(X, y)
    assert any(w.startswith("exploding gradients") and "clip_norm" in w for w in wild.warnings)
    sound = trainer([8, 64, 64, 3]).diagnose(X, y)
    assert sound.warnings == []


def test_dead_and_saturated_units(rng):
    X, y = rng.standard_normal((100, 8)), rng.integers(0, 3, 100)
    t = trainer([8, 10, 10, 3])
    t.net.biases[0][:6] = -100
    d = t.diagnose(X, y)
    assert d.layers[0].dead == 0.6 and d.layers[1].dead < 0.4 and d.layers[2].dead == 0
    assert any("0: 8 -> 10: 60 % of its units say the same" in w for w in d.warnings)
    t = trainer([8, 10, 3], "tanh")
    t.net.weights[0][:] *= 100
    d = t.diagnose(X, y)
    assert d.layers[0].saturated > 0.9 and d.layers[0].dead < 0.4
    assert any("are saturated; try" in w for w in d.warnings)


def test_updates(rng):
    X, y = rng.standard_normal((100, 8)), rng.integers(0, 3, 100)
    fast = trainer([8, 10, 3], optimizer=fb.Adam(1.0)).diagnose(X, y)
    assert sum("try a lower lr" in w for w in fast.warnings) == 2
    slow = trainer([8, 10, 3], optimizer=fb.Adam(1e-9))
    slow.net.freeze(0)
    slow = slow.diagnose(X, y)
    assert [w for w in slow.warnings if "try a higher lr" in w] == slow.warnings and len(slow.warnings) == 1
    assert slow.layers[0].update == 0 and slow.layers[0].gradient > 0


def test_a_broken_network_is_said_to_be_broken(rng):
    X, y = rng.standard_normal((20, 8)), rng.integers(0, 3, 20)
    t = trainer([8, 10, 3])
    t.net.weights[0][0, 0] = np.nan
    d = t.diagnose(X, y)
    assert d.warnings[0].startswith("not finite") and "nan" in str(d)
    with pytest.raises(ValueError, match="X: got 1 row"):
        t.diagnose(X[:1], y[:1])
    with pytest.raises(ValueError, match="rows: got 1"):
        t.diagnose(X, y, rows=1)


def test_table_and_picture(rng, tmp_path):
    X, y = rng.standard_normal((3000, 8)), rng.integers(0, 3, 3000)
    t = trainer([8, 10, 6, 3])
    t.net.freeze(1)
    d = t.diagnose(X, y)
    lines = str(d).splitlines()
    assert d.rows == 1024 and "on 1024 rows" in lines[0]
    head = ["layer", "activation", "mean", "std", "dead", "sat.", "delta", "|dW|"]
    assert lines[1].split()[:8] == head
    assert [line.split()[:4] for line in lines[2:5]] == [
        ["0:", "8", "->", "10"], ["1:", "10", "->", "6"], ["2:", "6", "->", "3"],
    ]  # fmt: skip
    assert "frozen" in lines[3] and len(set(map(len, lines[1:5]))) == 1
    pytest.importorskip("matplotlib")
    picture = d.plot(tmp_path / "layers.png")
    assert picture.path.stat().st_size > 20_000


@pytest.mark.parametrize(
    "loss,activation", list(itertools.product(["mse", "bce_with_logits"], ["gelu", "sigmoid"]))
)
def test_other_losses_and_weights(rng, loss, activation):
    X, y = rng.standard_normal((40, 4)), rng.integers(0, 2, (40, 2)).astype(float)
    weight = rng.uniform(0, 1, 40)
    t = trainer([4, 9, 2], activation, loss)
    d = t.diagnose(X, y, weight)
    loss, grads = t.gradients(X, y, weight)
    assert d.loss == pytest.approx(loss, rel=1e-12)
    assert [r.gradient for r in d.layers] == pytest.approx([np.linalg.norm(dw) for dw, _ in grads], rel=1e-12)
