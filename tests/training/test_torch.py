"""Trainer against torch.nn and torch.optim: losses, gradients, ten steps of every optimizer, clipping."""

import harness as h
import numpy as np
import pytest

import fastbp as fb
from fastbp.kernels import codes

torch = pytest.importorskip("torch", reason="torch comes with the extra: pip install '.[compare]'")
F = torch.nn.functional

# Norm-wise, against torch in float64 from the same weights and data: a float32 bound is on our rounding
# alone. In 300 random problems each the largest errors were, for gradients, 3e-7 and 2e-14; for the way
# gone in ten steps, 9e-6 by SGD, whose weights of size 1 are rounded at every step of size 1e-2, 9e-6 by
# Adam, and in float64 3e-12 by Adam (see EPS), 4e-15 by SGD.
GRADIENT = {"float32": 2e-6, "float64": 1e-12}
STEPS = {"float32": 1e-5, "float64": 1e-10}
# Adam's first steps are lr g / (|g| + eps): with the default 1e-8 the sign of a gradient that cancels to
# nothing but float32 rounding decides a whole step. float64 is held to the default, float32 to this.
EPS = 1e-3
KINK = 1e-5  # as far as z and z - t stay off 0, where slopes jump and float32 may be on the other side

TORCH_LOSSES = {
    "cross_entropy": torch.nn.CrossEntropyLoss,
    "bce_with_logits": torch.nn.BCEWithLogitsLoss,
    "mse": torch.nn.MSELoss,
    "mae": torch.nn.L1Loss,
    "huber": torch.nn.HuberLoss,
}


ACTIVATIONS = {  # the others go by their names in torch.nn.functional
    "identity": lambda z: z,
    "gelu_tanh": lambda z: F.gelu(z, approximate="tanh"),
    "sin": torch.sin,
    "softplus": lambda z: F.softplus(z, threshold=700),  # exact, not linear from 20 on
}


def twin(net):
    """The network as torch layers, float64, with the same numbers."""
    names = [*net.activations, "identity"]
    layers = []
    for w, b in zip(net.weights, net.biases, strict=True):
        layer = torch.nn.Linear(*w.shape, dtype=torch.float64)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(w.astype(float).T))
            layer.bias.copy_(torch.from_numpy(b.astype(float)))
        layers.append(layer)

    class Twin(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = torch.nn.ModuleList(layers)

        def forward(self, x):
            self.z = []
            for layer, name in zip(self.layers, names, strict=True):
                self.z.append(layer(x))
                x = ACTIVATIONS.get(name, getattr(F, name, None))(self.z[-1])
            return x

    return Twin()


def network(rng, activation, outputs, dtype):
    """One to three hidden layers of ragged widths, biases not zero."""
    sizes = [*rng.integers(1, 40, rng.integers(2, 5)), outputs]
    net = fb.MLP(sizes, activation, seed=int(rng.integers(1000)), dtype=dtype)
    for b in net.biases:
        b[:] = rng.standard_normal(b.shape)
    return net


def problem(rng, loss, rows, net):
    """(X, y) for a network, and the same as torch tensors; cross_entropy now and then with probabilities."""
    inputs, outputs = net.sizes[0], net.sizes[-1]
    X = rng.standard_normal((rows, inputs)).astype(net.dtype)
    if loss == "cross_entropy":
        y = rng.integers(0, outputs, rows)
        if rng.integers(2):
            y = rng.dirichlet(np.ones(outputs), rows).astype(net.dtype)
    elif loss == "bce_with_logits":
        y = rng.uniform(0, 1, (rows, outputs)).astype(net.dtype)
    else:
        y = 2 * rng.standard_normal((rows, outputs)).astype(net.dtype)  # huber's both branches
    target = torch.from_numpy(y if y.dtype.kind == "i" else y.astype(float))
    return X, y, torch.from_numpy(X.astype(float)), target


def flat(arrays):
    return np.concatenate([np.ravel(a) for a in arrays]).astype(float)


def ours(pairs):
    return flat([a for pair in pairs for a in pair])


def theirs(model, pick):
    """All of pick(parameter), laid out as ours: W (fan_in, fan_out), then b, layer by layer."""
    return flat([pick(p).detach().numpy().T for layer in model.layers for p in (layer.weight, layer.bias)])


def compare_gradients(net, loss, X, y, X_torch, y_torch, tolerance):
    got_loss, got = fb.Trainer(net, loss).gradients(X, y)
    model = twin(net)
    exact_loss = TORCH_LOSSES[loss]()(model(X_torch), y_torch)
    exact_loss.backward()
    assert got_loss == pytest.approx(exact_loss.item(), rel=tolerance)
    assert h.relative(ours(got), theirs(model, lambda p: p.grad)) < tolerance


@pytest.mark.parametrize("dtype", h.DTYPES)
@pytest.mark.parametrize("loss", TORCH_LOSSES)
@pytest.mark.parametrize("activation", codes.ACTIVATIONS)
def test_loss_and_every_gradient(rng, activation, loss, dtype):
    net = network(rng, activation, rng.integers(2, 20), dtype)
    while True:
        X, y, X_torch, y_torch = problem(rng, loss, rng.integers(1, 50), net)
        model = twin(net)
        out = model(X_torch)
        corners = [*model.z[:-1], *([out - y_torch] if loss == "mae" else [])]
        if min((z.abs().min().item() for z in corners), default=1) > KINK:
            break
    compare_gradients(net, loss, X, y, X_torch, y_torch, GRADIENT[dtype])


@pytest.mark.parametrize("dtype", h.DTYPES)
@pytest.mark.parametrize("activation", codes.ACTIVATIONS)
def test_slopes_at_zero(rng, activation, dtype):
    """Exactly at the kinks of relu, leaky_relu and elu: torch's choice of slope."""
    net = network(rng, activation, 3, dtype)
    net.weights[0][:], net.biases[0][:] = 0, 0
    compare_gradients(net, "mse", *problem(rng, "mse", 20, net), GRADIENT[dtype])


FAR = np.array([0, 1e-30, 1e-8, 1e-3, 0.5, 1, 2, 3, 5, 6, 10, 15, 20, 30, 40, 60, 87, 89, 90, 100, 500, 700,
                720, 1e3, 1e4, 1e6, 1e10, 1e14, 1e18, 1e30, 8.6e37, 1.7e38, 3e38])  # fmt: skip


@pytest.mark.parametrize("dtype", h.DTYPES)
@pytest.mark.parametrize("activation", [name for name in codes.ACTIVATIONS if name != "sin"])
def test_slopes_far_out_and_at_all_kinks(activation, dtype):
    z = np.concatenate([FAR, -FAR])
    net = fb.MLP([1, len(z), 1], activation, initializer="zeros", dtype=dtype)
    net.weights[0][:], net.weights[1][:] = z, 1
    line = fb.loss(lambda z, t: z * t, name="line")
    _, grads = fb.Trainer(net, line).gradients(np.ones((1, 1)), np.ones(1))
    x = torch.tensor(z, requires_grad=True)
    value = ACTIVATIONS.get(activation, getattr(F, activation, None))(x)
    value.sum().backward()
    assert np.allclose(grads[0][1], x.grad.numpy(), rtol=1e-6, atol=1e-6)
    assert np.allclose(grads[1][0][:, 0], value.detach().numpy(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("loss", ["mae", "huber"])
def test_losses_at_their_kinks(loss):
    """Differences of 0, 1 and -1, where these losses change their form."""
    net = fb.MLP([1, 3], seed=0, dtype="float64")
    net.weights[0][:], net.biases[0][:] = 0, 0
    X, y = np.ones((2, 1)), np.array([[0.0, 1, -1], [0, 0, 0]])
    compare_gradients(net, loss, X, y, torch.from_numpy(X), torch.from_numpy(y), 1e-15)


OPTIMIZERS = {
    "sgd": (fb.SGD, {"lr": 0.05}),
    "sgd_decay": (fb.SGD, {"lr": 0.05, "weight_decay": 0.1}),
    "momentum": (fb.SGD, {"lr": 0.05, "momentum": 0.9}),
    "dampening": (fb.SGD, {"lr": 0.05, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.01}),
    "nesterov": (fb.SGD, {"lr": 0.05, "momentum": 0.8, "nesterov": True, "weight_decay": 0.01}),
    "adam": (fb.Adam, {"lr": 0.01}),
    "adam_decay": (fb.Adam, {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.1}),
    "adamw": (fb.AdamW, {"lr": 0.01}),
    "adamw_decay": (fb.AdamW, {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.5}),
}


def test_defaults_are_torchs():
    for kind in (
        fb.SGD,
        fb.Adam,
        fb.AdamW,
        fb.NAdam,
        fb.RAdam,
        fb.Adamax,
        fb.RMSprop,
        fb.Adagrad,
        fb.Adadelta,
    ):
        mine = kind().config()
        del mine["name"]
        parameter = torch.nn.Parameter(torch.zeros(1))
        lr = {"lr": mine["lr"]} if kind is fb.SGD else {}  # torch once had none; ours is Keras's
        defaults = getattr(torch.optim, kind.__name__)([parameter], **lr).defaults
        assert mine == {name: defaults[name] for name in mine}


@pytest.mark.parametrize("dtype", h.DTYPES)
@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_ten_steps(rng, name, clip, dtype):
    """Ten steps, the last batch of each epoch smaller, on a smooth network; with and without clipping."""
    kind, hyper = OPTIMIZERS[name]
    if kind is not fb.SGD and dtype == "float32":
        hyper = hyper | {"eps": EPS}
    net = network(rng, "tanh", 5, dtype)
    X, y, X_torch, y_torch = problem(rng, "cross_entropy", 36, net)
    model, loss = twin(net), TORCH_LOSSES["cross_entropy"]()
    optimizer = getattr(torch.optim, kind.__name__)(model.parameters(), **hyper)
    clip_norm = None
    if clip:  # the first step is clipped; others may not be
        _, grads = fb.Trainer(net).gradients(X[:8], y[:8])
        clip_norm = float(np.linalg.norm(ours(grads)) * rng.uniform(0.3, 1))
    start, losses, clipped = ours(zip(net.weights, net.biases, strict=True)), [], 0
    for _ in range(2):
        for first in range(0, 36, 8):
            rows = slice(first, first + 8)
            optimizer.zero_grad()
            value = loss(model(X_torch[rows]), y_torch[rows])
            value.backward()
            if clip:
                norm = torch.nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
                clipped += norm.item() > clip_norm
            optimizer.step()
            losses.append(value.item())
    trainer = fb.Trainer(net, optimizer=kind(**hyper), batch_size=8, clip_norm=clip_norm)
    history = trainer.fit(X, y, epochs=2, shuffle=False)
    assert trainer.steps == 10 and (clipped > 0) == clip
    exact = theirs(model, lambda p: p)
    got = ours(zip(net.weights, net.biases, strict=True))
    # of the way gone, not of the weights, which hide it: ten small steps leave them almost as they were
    assert h.relative(got - start, exact - start) < STEPS[dtype]
    means = np.reshape(losses, (2, 5)) @ [8, 8, 8, 8, 4] / 36
    assert history.history["loss"] == pytest.approx(means, rel=STEPS[dtype])
