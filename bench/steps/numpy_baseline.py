"""Training in NumPy as fast as NumPy allows: the number that every benchmark divides by.

Nothing is allocated after the first batch of a size, except a few numbers per sample in the loss:
every call writes into a buffer made before. What remains is the price of NumPy itself: each of its
calls passes over memory once, with nothing fused. Times in the comments: float32, one thread of a
Xeon with AVX-512, NumPy 2.4.
"""

import math

import numpy as np

# The optimizer's ten passes go over a block that stays in the L2 cache, not ten times over memory:
# 1.6 instead of 2.0 ms for a step of Adam on 670,000 parameters (2.5 ms in the textbook's order).
BLOCK = 32768


class NumpyMLP:
    """A multi-layer perceptron with linear outputs, the same maths as fastbp.kernels.reference.

    sizes: [inputs, hidden ..., outputs]; activation: "relu" or "tanh", of every hidden layer
    loss: "cross_entropy" (integer labels) or "mse"; optimizer: "SGD" (lr, momentum) or "Adam" (lr,
    betas, eps)

    `params` is [(W, b), ...], W (fan_in, fan_out): views of one flat vector, writable, that start
    as He's normal weights and zero biases.
    """

    def __init__(
        self,
        sizes,
        activation="relu",
        loss="cross_entropy",
        optimizer="Adam",
        lr=1e-3,
        betas=(0.9, 0.999),
        eps=1e-8,
        momentum=0.0,
        dtype=np.float32,
        seed=0,
    ):
        self.sizes, self.dtype = list(sizes), np.dtype(dtype)
        self.lr, self.betas, self.eps, self.momentum = lr, betas, eps, momentum
        self.steps = 0

        self._activate, self._times_derivative = {
            "relu": (_relu, _times_relu_derivative),
            "tanh": (_tanh, _times_tanh_derivative),
        }[activation]
        self._loss, self._target_shape, self._target_dtype = {
            "cross_entropy": (_cross_entropy, (), np.intp),
            "mse": (_mse, (sizes[-1],), self.dtype),
        }[loss]
        self._step = {"SGD": self._sgd, "Adam": self._adam}[optimizer]

        layers = list(zip(sizes[:-1], sizes[1:], strict=True))
        count = sum(i * o + o for i, o in layers)
        slots = {"SGD": 1 if momentum else 0, "Adam": 2}[optimizer]
        arenas = [np.zeros(count, self.dtype) for _ in range(2 + slots)]  # p, its gradient, slots
        self.params, self._grads = _cut(arenas[0], layers), _cut(arenas[1], layers)
        self._blocks = [tuple(arena[i : i + BLOCK] for arena in arenas) for i in range(0, count, BLOCK)]
        self._workspaces = {}

        rng = np.random.default_rng(seed)
        for W, _ in self.params:
            W[...] = rng.standard_normal(W.shape) * math.sqrt(2 / len(W))

    def reset(self, params):
        """Start again from these parameters, [(W, b), ...], with a fresh optimizer."""
        for (W, b), (W0, b0) in zip(self.params, params, strict=True):
            W[...], b[...] = W0, b0
        for _, _, *slots in self._blocks:
            for slot in slots:
                slot[...] = 0
        self.steps = 0

    def epoch(self, X, y, order, batch_size):
        """Train on the samples `order` names, batch by batch; the mean loss over these samples.

        X: (N, inputs); y: labels (N,), or targets (N, outputs) or (N,) for "mse". Arrays of another
        dtype than the network's (intp for labels) are converted whole, in every call.
        order: (M,) integers in [0, N), not checked. The last batch may be smaller.
        """
        X = np.asarray(X, self.dtype)
        y = np.asarray(y, self._target_dtype).reshape(len(y), *self._target_shape)
        total = 0.0
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            space = self._workspace(len(rows))
            # 19 us for 128 rows of 784; 59 in take's other mode, which writes to a copy first
            np.take(X, rows, axis=0, out=space.x, mode="clip")
            np.take(y, rows, axis=0, out=space.t, mode="clip")
            self._forward(space)
            total += self._loss(space)
            self._backward(space)
            self.steps += 1
            self._step()
        return total / len(order)

    def forward(self, X):
        """The outputs of the last layer, before any softmax, (N, outputs). X: (N, inputs)."""
        space = _Workspace(self.sizes, len(X), self.dtype)
        space.x[...] = X
        self._forward(space)
        return space.z

    def _workspace(self, n):
        if n not in self._workspaces:
            space = _Workspace(self.sizes, n, self.dtype)
            space.t = np.empty((n, *self._target_shape), self._target_dtype)
            self._workspaces[n] = space
        return self._workspaces[n]

    def _forward(self, space):
        for k, (W, b) in enumerate(self.params):
            out = space.a[k + 1]
            np.dot(space.a[k], W, out=out)  # 1 us less than matmul, which counts in small networks
            np.add(out, b, out=out)
            if out is not space.z:
                self._activate(out)

    def _backward(self, space):
        dz = space.z  # the loss has overwritten z with its gradient
        for k in reversed(range(len(self.params))):
            dW, db = self._grads[k]
            np.dot(space.a[k].T, dz, out=dW)
            np.dot(space.ones, dz, out=db)  # half the time of dz.sum(axis=0)
            if k > 0:
                da = space.da[k]
                np.dot(dz, self.params[k][0].T, out=da)
                self._times_derivative(da, space.a[k])  # a[k] has served, and is scratch now
                dz = da

    def _sgd(self):
        for p, g, *slots in self._blocks:
            if slots:
                (buffer,) = slots  # starts at 0, so the first step sets it to g
                buffer *= self.momentum
                buffer += g
                np.multiply(buffer, self.lr, out=g)
            else:
                g *= self.lr
            p -= g

    def _adam(self):
        # The moments are kept without their factors 1 - beta, which saves a pass each; the factors
        # and both bias corrections are put into the step size and eps. g serves as scratch.
        beta1, beta2 = self.betas
        root = math.sqrt((1 - beta2**self.steps) / (1 - beta2))
        lr = self.lr * (1 - beta1) / (1 - beta1**self.steps) * root
        eps = self.eps * root
        for p, g, m, v in self._blocks:
            m *= beta1
            m += g
            g *= g
            v *= beta2
            v += g
            np.sqrt(v, out=g)
            g += eps
            np.divide(m, g, out=g)
            g *= lr
            p -= g


class _Workspace:
    """All that a batch of n samples passes through between the gather and the update."""

    def __init__(self, sizes, n, dtype):
        self.a = [np.empty((n, size), dtype) for size in sizes]  # inputs of each layer, outputs
        self.da = [None] + [np.empty((n, size), dtype) for size in sizes[1:-1]]  # hidden layers'
        self.x, self.z = self.a[0], self.a[-1]
        self.ones = np.ones(n, dtype)
        # for the losses
        self.z_flat = self.z.reshape(-1)
        self.row_starts = np.arange(n, dtype=np.intp) * sizes[-1]
        self.index = np.empty(n, np.intp)
        self.picked = np.empty(n, dtype)
        self.row_max = np.empty((n, 1), dtype)
        self.row_sum = np.empty((n, 1), dtype)
        self.ones_out = np.ones((sizes[-1], 1), dtype)


def _cut(arena, layers):
    """[(W, b), ...]: views that follow each other through the flat arena."""
    views, start = [], 0
    for i, o in layers:
        middle, end = start + i * o, start + i * o + o
        views.append((arena[start:middle].reshape(i, o), arena[middle:end]))
        start = end
    return views


# Activations, in place; their derivatives, from a = f(z), multiply da in place and overwrite a.


def _relu(z):
    np.maximum(z, 0, out=z)


def _times_relu_derivative(da, a):
    np.greater(a, 0, out=a)  # 0.0 or 1.0; a boolean mask costs more, in the product's conversion
    np.multiply(da, a, out=da)


def _tanh(z):
    np.tanh(z, out=z)


def _times_tanh_derivative(da, a):
    np.multiply(a, a, out=a)
    np.subtract(1, a, out=a)
    np.multiply(da, a, out=da)


# Losses: the sum over the batch, a float; z becomes the gradient of the mean.


def _cross_entropy(space):
    z, z_flat, index, row_sum = space.z, space.z_flat, space.index, space.row_sum
    np.maximum.reduce(z, axis=1, keepdims=True, out=space.row_max)
    np.subtract(z, space.row_max, out=z)
    np.add(space.row_starts, space.t, out=index)
    np.take(z_flat, index, out=space.picked, mode="clip")
    np.exp(z, out=z)
    np.dot(z, space.ones_out, out=row_sum)
    loss = float(np.log(row_sum).sum() - space.picked.sum())
    np.multiply(row_sum, len(z), out=row_sum)
    np.divide(z, row_sum, out=z)
    z_flat[index] -= 1 / len(z)
    return loss


def _mse(space):
    z, z_flat = space.z, space.z_flat
    np.subtract(z, space.t, out=z)
    loss = float(np.dot(z_flat, z_flat)) / z.shape[1]
    np.multiply(z, 2 / z.size, out=z)
    return loss
