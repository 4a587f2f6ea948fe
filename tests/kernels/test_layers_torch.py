"""Norms, skips and embeddings against torch.nn: losses, gradients, ten steps of Adam, evaluation."""

import copy

import harness as h
import numpy as np
import pytest
from oracle import SMOOTH, Oracle, flat, mixed, ours, shaken, trained

import fastbp as fb

torch = pytest.importorskip("torch", reason="torch comes with the extra: pip install '.[compare]'")


class Twin(torch.nn.Module):
    """The network as torch layers, float64, with the same numbers."""

    def __init__(self, net):
        super().__init__()
        self.names, self.skips = net.activations, net.skips
        self.columns = [c for c, _, _ in net.embedded]
        self.tables = torch.nn.ModuleList(torch.nn.Embedding(n, w) for _, n, w in net.embedded)
        self.dense = torch.nn.ModuleList(torch.nn.Linear(*w.shape) for w in net.weights)
        kinds = {"layer": torch.nn.LayerNorm, "batch": torch.nn.BatchNorm1d}
        self.norms = torch.nn.ModuleDict(
            {str(k): kinds[n](net.sizes[k + 1]) for k, n in enumerate(net.norms) if n}
        )
        self.slopes = torch.nn.ModuleDict(
            {str(k): torch.nn.PReLU(len(s)) for k, s in enumerate(net.slopes) if s is not None}
        )
        self.double()
        with torch.no_grad():
            for parameter, values in zip(self.ordered(), Oracle(net).arrays(), strict=True):
                parameter.copy_(torch.from_numpy(values.T if parameter.shape != values.shape else values))

    def ordered(self):
        """Parameters in the oracle's order."""
        for k, layer in enumerate(self.dense):
            yield from (Transposed(layer.weight), layer.bias)
            if str(k) in self.norms:
                yield from self.norms[str(k)].parameters()
            if str(k) in self.slopes:
                yield self.slopes[str(k)].weight
        yield from (table.weight for table in self.tables)

    def forward(self, X):
        numeric = [k for k in range(X.shape[1]) if k not in self.columns]
        looked = [t(X[:, c].long()) for c, t in zip(self.columns, self.tables, strict=True)]
        x = torch.cat([X[:, numeric], *looked], dim=1)
        for k, layer in enumerate(self.dense):
            z = layer(x)
            if str(k) in self.norms:
                z = self.norms[str(k)](z)
            if k < len(self.names):
                a = z if self.names[k] == "identity" else self.activation(k)(z)
                z = a + x if self.skips[k] else a
            x = z
        return x

    def activation(self, k):
        name = self.names[k]
        return self.slopes[str(k)] if name == "prelu" else getattr(torch.nn.functional, name)


class Transposed:
    """A Linear's weight, seen as (fan_in, fan_out)."""

    def __init__(self, weight):
        self.weight = weight

    @property
    def shape(self):
        return self.weight.T.shape

    def copy_(self, values):
        self.weight.copy_(values.T)

    def detach(self):
        return self.weight.detach().T

    @property
    def grad(self):
        return self.weight.grad.T


TORCH = {
    "layer": {"norm": "layer"},
    "batch": {"norm": "batch"},
    "residual": {"residual": True},
    "embeddings": {"embeddings": {0: (4, 3), 5: (7, 18)}},
    "prelu": {"activation": "prelu"},
    "prelu, layer": {"activation": "prelu", "norm": "layer"},
    "all": {
        "activation": ["silu", "tanh", "prelu"],
        "norm": ["layer", "batch", None],
        "residual": [False, True, True],
        "embeddings": {2: (5, 9)},
    },
}


@pytest.mark.parametrize("dtype", h.DTYPES)
@pytest.mark.parametrize("clip_norm", [None, 0.5])
@pytest.mark.parametrize("case", TORCH)
def test_ten_steps_of_adam_as_torch(rng, case, clip_norm, dtype):
    """Loss, every gradient, the way gone in ten steps, and evaluate's outputs after them."""
    options = {"activation": str(rng.choice(SMOOTH))} | TORCH[case]
    net = shaken(fb.MLP([6, 19, 19, 19, 4], **options, seed=3, dtype=dtype), rng)
    X, y = mixed(rng, 52, 6, net.embedded, dtype), rng.integers(0, 4, 52)
    x, t = torch.from_numpy(X.astype(float)), torch.from_numpy(y)
    model, loss = Twin(net), torch.nn.CrossEntropyLoss()
    probe = copy.deepcopy(model)
    value = loss(probe(x), t)
    value.backward()
    got_value, got = fb.Trainer(net).gradients(X, y)
    assert got_value == pytest.approx(value.item(), rel=4 * h.TOLERANCE[dtype])
    exact = flat([p.grad for p in probe.ordered()])
    assert h.relative(ours(net, got), exact) < 6 * h.TOLERANCE[dtype]

    # eps: see tests/training/test_torch.py; biases before a norm by batch have no gradient but rounding
    hyper = {"lr": 0.01, "eps": 1e-3}
    optimizer = torch.optim.Adam(model.parameters(), **hyper)
    start, losses = trained(net), []
    for _ in range(2):
        for first in range(0, 52, 11):
            rows = slice(first, first + 11)
            optimizer.zero_grad()
            value = loss(model(x[rows]), t[rows])
            value.backward()
            if clip_norm:
                torch.nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
            optimizer.step()
            losses.append(value.item())
    trainer = fb.Trainer(net, optimizer=fb.Adam(**hyper), batch_size=11, clip_norm=clip_norm)
    history = trainer.fit(X, y, epochs=2, shuffle=False)
    bound = {"float32": 4e-5, "float64": 1e-10}[dtype]
    assert trainer.steps == 10
    assert h.relative(trained(net) - start, flat([p.detach() for p in model.ordered()]) - start) < bound
    means = np.reshape(losses, (2, 5)) @ [11, 11, 11, 11, 8] / 52
    assert history.history["loss"] == pytest.approx(means, rel=bound)
    for k, running in enumerate(net.running_means):
        if running is not None:
            module = model.norms[str(k)]
            assert h.relative(running, module.running_mean.numpy()) < bound
            assert h.relative(net.running_vars[k], module.running_var.numpy()) < bound
    model.eval()
    assert h.relative(trainer.forward(X), model(x).detach().numpy()) < bound


def test_torch_too_refuses_a_batch_of_one():
    """What test_layers.py expects of ours."""
    with pytest.raises(ValueError):
        torch.nn.BatchNorm1d(3)(torch.ones(1, 3))
