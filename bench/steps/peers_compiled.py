"""The peers that bring a compiler or a library of kernels: torch eager, torch.compile, JAX."""

import functools

import numpy as np

from .peers import Peer, Unsupported


class Torch(Peer):
    """torch, eager, with its fused optimizers."""

    note = "eager, fused optimizer, the epoch's samples gathered by one index_select"

    def build(self):
        import torch

        case = self.case
        torch.set_num_threads(self.threads)
        self.torch = torch
        kinds = {"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh, "gelu": torch.nn.GELU}
        if case.activation not in kinds:
            raise Unsupported(f"torch: {case.activation} is not in the table of this benchmark")
        layers = []
        for i, o in case.layers:
            layers += [torch.nn.Linear(i, o), kinds[case.activation]()]
        self.net = torch.nn.Sequential(*layers[:-1])
        self.X, self.y = torch.from_numpy(self.X), torch.from_numpy(self.y)
        losses = torch.nn.functional
        loss = losses.cross_entropy if case.loss == "cross_entropy" else losses.mse_loss
        self.loss = self.compiled(lambda x, t: loss(self.net(x), t))

    def compiled(self, loss):
        return loss

    def reset(self):
        torch, case = self.torch, self.case
        linear = [layer for layer in self.net if isinstance(layer, torch.nn.Linear)]
        with torch.no_grad():
            for layer, (W, b) in zip(linear, case.weights(), strict=True):
                layer.weight.copy_(torch.from_numpy(np.ascontiguousarray(W.T)))
                layer.bias.copy_(torch.from_numpy(b))
        kind = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[case.optimizer]
        self.optimizer = kind(self.net.parameters(), lr=case.lr, fused=True)

    def epoch(self, order):
        torch, optimizer = self.torch, self.optimizer
        order = torch.from_numpy(order)
        X, y = self.X.index_select(0, order), self.y.index_select(0, order)
        total = torch.zeros(())
        batches = zip(X.split(self.case.batch), y.split(self.case.batch), strict=True)
        for x, t in batches:
            loss = self.loss(x, t)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            total += loss.detach()
        return float(total) / self.case.steps


class TorchCompile(Torch):
    """torch.compile of the network and its loss; the optimizer is the fused one of eager torch."""

    note = "network and loss compiled as one graph, fused optimizer"

    def compiled(self, loss):
        self.torch.compiler.reset()  # else the cases before count against the limit of recompiling
        return self.torch.compile(loss, fullgraph=True, dynamic=False)


class Jax(Peer):
    """JAX: an epoch is one jitted program, a scan over its batches, buffers donated."""

    note = "jit of lax.scan over the epoch, buffers donated, Adam in jax.numpy"
    platform = "cpu"

    def build(self):
        import jax

        if self.platform:
            jax.config.update("jax_platforms", self.platform)
        self.jax = jax
        self.X, self.y = jax.device_put(self.X), jax.device_put(self.y)
        self._epoch = jax.jit(functools.partial(jax_epoch, self.case), donate_argnums=0)

    def reset(self):
        self.state = jax_state(self.case)

    def epoch(self, order):
        self.state, loss = self._epoch(self.state, self.X, self.y, order.astype(np.int32))
        return float(loss)


def jax_state(case):
    """(parameters, first moments, second moments, updates made): pairs of arrays, 0."""
    import jax
    import jax.numpy as jnp

    params = [(jnp.array(W), jnp.array(b)) for W, b in case.weights()]
    zeros = [jax.tree.map(jnp.zeros_like, params) for _ in range(2 if case.optimizer == "adam" else 0)]
    return params, *zeros, jnp.zeros((), jnp.int32)


def jax_epoch(case, state, X, y, order):
    """(state after an epoch, its mean loss)."""
    import jax
    import jax.numpy as jnp

    activation = {
        "relu": jax.nn.relu,
        "tanh": jnp.tanh,
        "gelu": functools.partial(jax.nn.gelu, approximate=False),
    }[case.activation]

    def loss(params, x, t):
        for W, b in params[:-1]:
            x = activation(x @ W + b)
        W, b = params[-1]
        z = x @ W + b
        if case.loss == "mse":
            return jnp.mean((z - t) ** 2)
        return jnp.mean(jax.nn.logsumexp(z, axis=1) - jnp.take_along_axis(z, t[:, None], 1)[:, 0])

    def sgd(state, grads):
        params, number = state
        return jax.tree.map(lambda p, g: p - case.lr * g, params, grads), number + 1

    def adam(state, grads, beta1=0.9, beta2=0.999, eps=1e-8):
        params, first, second, number = state
        number = number + 1
        lr = case.lr / (1 - beta1**number)
        root = 1 / jnp.sqrt(1 - beta2**number)
        first = jax.tree.map(lambda m, g: beta1 * m + (1 - beta1) * g, first, grads)
        second = jax.tree.map(lambda v, g: beta2 * v + (1 - beta2) * g * g, second, grads)
        params = jax.tree.map(lambda p, m, v: p - lr * m / (jnp.sqrt(v) * root + eps), params, first, second)
        return params, first, second, number

    update = {"sgd": sgd, "adam": adam}[case.optimizer]

    def step(state, rows):
        value, grads = jax.value_and_grad(loss)(state[0], X[rows], y[rows])
        return update(state, grads), value

    state, losses = jax.lax.scan(step, state, order.reshape(case.steps, case.batch))
    return state, losses.mean()
