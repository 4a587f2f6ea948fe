"""Backpropagation; then networks with more: norm between z and the activation, dropout, a skip around the
layer, embeddings."""

import math

import numpy as np

from .activations import activation, activation_derivative
from .losses import loss_and_delta


def forward(params, x, activations):
    """[(z, a), ...] of every layer, each (B, O); the last a equals the last z. x: (B, I)."""
    a = np.asarray(x, dtype=params[0][0].dtype)
    layers = []
    for (W, b), name in zip(params, [*activations, "identity"], strict=True):
        z = a @ W + b
        a = activation(name, z)
        layers.append((z, a))
    return layers


def gradients(params, x, t, activations, loss, sample_weight=None, **constants):
    """The mean loss of a batch, a float, and its gradients [(dW, db), ...], shaped as params.

    dW_l = a_{l-1}^T dz_l;  db_l = the sum of dz_l over the batch;
    dz_{l-1} = (dz_l W_l^T) * f'(z_{l-1}), from dz_L = dloss/dz_L down.
    """
    layers = forward(params, x, activations)
    inputs = [np.asarray(x, dtype=params[0][0].dtype)] + [a for _, a in layers[:-1]]
    value, dz = loss_and_delta(loss, layers[-1][0], t, sample_weight, **constants)
    grads = []
    for k in reversed(range(len(params))):
        grads.insert(0, (inputs[k].T @ dz, dz.sum(axis=0)))
        if k > 0:
            dz = (dz @ params[k][0].T) * activation_derivative(activations[k - 1], layers[k - 1][0])
    return value, grads


# Networks with more.

NORM_EPS, MOMENTUM = 1e-5, 0.1  # torch.nn.LayerNorm's and BatchNorm1d's
NORMS = {"layer": 1, "batch": 0}  # the axis whose numbers share a mean and a deviation


def _mixed(x):
    """A 32-bit mixer: every bit of x changes every bit of the result with chance about 1/2."""
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x21F0AAAD)
    x = (x ^ (x >> np.uint32(15))) * np.uint32(0x735A2D97)
    return x ^ (x >> np.uint32(15))


def dropout_bits(seed, step, place, rows, columns):
    """(rows, columns) uint32: the random bits of a layer (place 0: the inputs) in a step, from 1 on."""
    golden = np.uint32(0x9E3779B9)
    words = [seed & 0xFFFFFFFF, seed >> 32, step & 0xFFFFFFFF, step >> 32, place]
    keys = []
    for start in (0x243F6A88, 0x85A308D3):
        key = np.array([start], np.uint32)
        for word in words:
            key = _mixed((key ^ np.uint32(word)) + golden)
        keys.append(_mixed((key ^ np.arange(rows, dtype=np.uint32)) + golden)[:, None])
    x = (np.arange(columns, dtype=np.uint32)[None] * golden) ^ keys[0]
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x21F0AAAD) ^ keys[1]
    x = (x ^ (x >> np.uint32(15))) * np.uint32(0x735A2D97)
    return x ^ (x >> np.uint32(15))


def dropout_mask(rate, *where):
    """(rows, columns) of 0 where a number is dropped, else 1 / (1 - rate); where: as in dropout_bits."""
    limit = math.floor(rate * 2**32 + 0.5)
    return np.where(dropout_bits(*where) >= limit, 2**32 / (2**32 - limit), 0.0)


def normalise(z, kind, statistics=None):
    """(z - mean) / sqrt(variance + eps), and 1 / sqrt(...): of each row ("layer") or column ("batch").

    statistics: (mean, variance) to use instead of the batch's.
    """
    axis = NORMS[kind]
    mean, variance = statistics or (z.mean(axis=axis, keepdims=True), z.var(axis=axis, keepdims=True))
    inverse = 1 / np.sqrt(variance + NORM_EPS)
    return (z - mean) * inverse, inverse


def normalise_backward(g, hat, inverse, kind):
    """The gradient at z from the gradient g at the normalised numbers hat."""
    axis = NORMS[kind]
    mean, product = (x.mean(axis=axis, keepdims=True) for x in (g, g * hat))
    return (g - mean - hat * product) * inverse


def _learned(name, vectors):
    """(activation, its constants) of a layer with these vectors, of which the last are prelu's slopes."""
    return ("leaky_relu", {"slope": vectors[-1]}) if name == "prelu" else (name, {})


def layers_forward(params, x, activations, norms, skips, masks, statistics=None):
    """[{x, z, hat, inverse, y, a}, ...] of every layer: a = f(y) * mask, + x with a skip.

    params: (W, b), with a norm gain and shift behind, with prelu last its slopes (O,); masks: (B, O) or 1
    for each hidden layer; statistics: for each hidden layer (mean, variance) to use in its batch norm, or
    None.
    """
    layers = []
    for k, (W, b, *affine) in enumerate(params):
        at = {"x": x, "z": x @ W + b}
        at["y"] = at["z"]
        hidden = k < len(params) - 1
        if hidden and norms[k]:
            known = statistics[k] if statistics and norms[k] == "batch" else None
            at["hat"], at["inverse"] = normalise(at["z"], norms[k], known)
            at["y"] = affine[0] * at["hat"] + affine[1]
        at["a"] = at["y"]
        if hidden:
            name, constants = _learned(activations[k], affine)
            at["a"] = activation(name, at["y"], **constants) * masks[k]
        if hidden and skips[k]:
            at["a"] = at["a"] + x
        layers.append(at)
        x = at["a"]
    return layers


def layers_gradients(
    params, x, t, activations, loss, norms, skips, masks, *, sample_weight=None, statistics=None, **constants
):
    """The mean loss of a batch, its gradients, shaped as params, and its gradient with respect to x."""
    layers = layers_forward(params, x, activations, norms, skips, masks, statistics)
    value, total = loss_and_delta(loss, layers[-1]["a"], t, sample_weight, **constants)
    grads = []
    for k in reversed(range(len(params))):
        at, hidden = layers[k], k < len(params) - 1
        g, more, slopes = total, (), ()
        if hidden:
            name, constants = _learned(activations[k], params[k])
            g = total * masks[k] * activation_derivative(name, at["y"], **constants)
        if hidden and activations[k] == "prelu":
            slopes = ((total * masks[k] * np.minimum(at["y"], 0)).sum(axis=0),)
        if hidden and norms[k]:
            more = ((g * at["hat"]).sum(axis=0), g.sum(axis=0))
            g = g * params[k][2]
            fixed = statistics and norms[k] == "batch" and statistics[k] is not None
            g = g * at["inverse"] if fixed else normalise_backward(g, at["hat"], at["inverse"], norms[k])
        grads.insert(0, (at["x"].T @ g, g.sum(axis=0), *more, *slopes))
        past = total if hidden and skips[k] else 0
        total = g @ params[k][0].T + past
    return value, grads, total


def embed(x, tables):
    """[numeric columns | a row of each table]; tables: {column: (categories, width) array}."""
    numeric = np.delete(x, sorted(tables), axis=1)
    return np.hstack([numeric, *(tables[c][x[:, c].astype(int)] for c in sorted(tables))])


def embed_gradients(x, tables, dx):
    """{column: the gradient of its table} from the gradient at what ``embed`` returned."""
    place, grads = x.shape[1] - len(tables), {}
    for c in sorted(tables):
        width = tables[c].shape[1]
        grads[c] = np.zeros(tables[c].shape)
        np.add.at(grads[c], x[:, c].astype(int), dx[:, place : place + width])
        place += width
    return grads
