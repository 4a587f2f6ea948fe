"""The whole training step in plain NumPy: the oracle that every kernel is held to.

Written to be read against the formulas, not to be fast. It works in the precision of the
parameters: float32 shows what float32 arithmetic gives, float64 what is true. Nothing is
approximated; where a textbook form cancels or overflows, the equal form that does not is used.

B batch, I fan in, O fan out, C outputs of the network:
    params       [(W, b), ...], one pair per dense layer, W (I, O), b (O,)
    activations  one name per hidden layer; the output layer is linear, its z are the logits
    a layer      z = input @ W + b, a = f(z)
The loss of a batch is a mean over its samples, and the gradients are those of this mean:
    loss = sum_i w_i loss_i / sum_i w_i, all w_i = 1 unless given;
    loss_i is itself a mean over the outputs, except where they are one answer: cross_entropy, cosine,
    focal with labels
Names, formulas and defaults are those of torch.nn.functional and torch.optim, at the kinks too.
"""

import math

import numpy as np

# Activations, elementwise: f and f', both functions of z. slope and alpha are torch's
# negative_slope and alpha.

_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def identity(z):
    return z.copy()


def identity_derivative(z):
    return np.ones_like(z)


def relu(z):
    return np.maximum(z, 0)


def relu_derivative(z):
    return (z > 0).astype(z.dtype)


def leaky_relu(z, slope=0.01):
    return np.where(z > 0, z, slope * z)


def leaky_relu_derivative(z, slope=0.01):
    return np.where(z > 0, 1, slope).astype(z.dtype)


def sigmoid(z):
    e = np.exp(-np.abs(z))  # at most 1: cannot overflow
    return np.where(z >= 0, 1, e) / (1 + e)


def sigmoid_derivative(z):
    e = np.exp(-np.abs(z))
    return e / (1 + e) ** 2  # = s (1 - s), without the cancellation in 1 - s


def tanh(z):
    return np.tanh(z)


def tanh_derivative(z):
    return 4 * sigmoid_derivative(2 * z)  # = 1 - tanh(z)^2, as tanh(z) = 2 sigmoid(2z) - 1


def elu(z, alpha=1.0):
    return np.where(z > 0, z, alpha * np.expm1(np.minimum(z, 0)))


def elu_derivative(z, alpha=1.0):
    return np.where(z > 0, 1, alpha * np.exp(np.minimum(z, 0)))


def normal_cdf(z):
    # = (1 + erf(z / sqrt 2)) / 2, whose sum cancels: no digit is left below z = -8.3
    return (0.5 * _erfc(-z / math.sqrt(2))).astype(z.dtype)


def gelu(z):
    return z * normal_cdf(z)


def gelu_derivative(z):
    return normal_cdf(z) + z * np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)


def silu(z):
    return z * sigmoid(z)


def silu_derivative(z):
    return sigmoid(z) + z * sigmoid_derivative(z)


def celu(z, alpha=1.0):
    return np.maximum(z, 0) + np.minimum(0, alpha * np.expm1(np.minimum(z, 0) / alpha))


def celu_derivative(z, alpha=1.0):
    return np.where(z > 0, 1, np.exp(np.minimum(z, 0) / alpha))


SELU = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717  # scale, alpha


def selu(z):
    return SELU[0] * elu(z, SELU[1])


def selu_derivative(z):
    return SELU[0] * elu_derivative(z, SELU[1])


def _gelu_tanh_inner(z):
    z = np.clip(z, -40, 40)  # its sigmoid is 0 or 1 there
    scale = 2 * math.sqrt(2 / math.pi)
    return scale * (z + 0.044715 * z**3), scale * (1 + 3 * 0.044715 * z * z)


def gelu_tanh(z):
    return z * sigmoid(_gelu_tanh_inner(z)[0])  # (1 + tanh(u)) / 2 = sigmoid(2 u)


def gelu_tanh_derivative(z):
    u, slope = _gelu_tanh_inner(z)
    return sigmoid(u) + z * sigmoid_derivative(u) * slope


def mish(z):
    return z * np.tanh(softplus(z))


def mish_derivative(z):
    s = softplus(z)
    return np.tanh(s) + z * tanh_derivative(s) * sigmoid(z)


def softsign(z):
    return z / (1 + np.abs(z))


def softsign_derivative(z):
    return 1 / (1 + np.abs(z)) ** 2


def hardtanh(z):
    return np.clip(z, -1, 1)


def hardtanh_derivative(z):
    return (np.abs(z) < 1).astype(z.dtype)


def hardswish(z):
    return z * np.clip(z + 3, 0, 6) / 6


def hardswish_derivative(z):
    return np.where(z < -3, 0, np.where(z > 3, 1, z / 3 + 0.5))


def softplus(z):
    return np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))


ACTIVATIONS = {  # name: (f, f')
    "identity": (identity, identity_derivative),
    "relu": (relu, relu_derivative),
    "leaky_relu": (leaky_relu, leaky_relu_derivative),
    "sigmoid": (sigmoid, sigmoid_derivative),
    "tanh": (tanh, tanh_derivative),
    "elu": (elu, elu_derivative),
    "gelu": (gelu, gelu_derivative),
    "silu": (silu, silu_derivative),
    "celu": (celu, celu_derivative),
    "selu": (selu, selu_derivative),
    "gelu_tanh": (gelu_tanh, gelu_tanh_derivative),
    "mish": (mish, mish_derivative),
    "softplus": (softplus, sigmoid),
    "softsign": (softsign, softsign_derivative),
    "hardtanh": (hardtanh, hardtanh_derivative),
    "hardswish": (hardswish, hardswish_derivative),
    "sin": (np.sin, np.cos),
}


def activation(name, z, **constants):
    """f(z). z: any shape; constants: slope= for leaky_relu, alpha= for elu."""
    return ACTIVATIONS[name][0](z, **constants)


def activation_derivative(name, z, **constants):
    """f'(z), z being what went into the activation; otherwise as `activation`."""
    return ACTIVATIONS[name][1](z, **constants)


# Losses: z (B, C) and the targets t -> the loss of every sample (B,), its gradient to z (B, C).


def log_sum_exp(z):
    top = z.max(axis=1, keepdims=True)
    return top + np.log(np.exp(z - top).sum(axis=1, keepdims=True))


def softmax(z):
    return np.exp(z - log_sum_exp(z))


def cross_entropy(z, t, label_smoothing=0.0, class_weight=None, ignore_index=None):
    """sum_c w_c ((1 - s) t_c + s / C) (logsumexp(z) - z_c). t: probabilities (B, C), or labels (B,).

    With labels the weight of the sample's class is in `_label_weight`; s / C is divided by it.
    """
    weights = np.ones(z.shape[1]) if class_weight is None else np.asarray(class_weight, float)
    uniform = label_smoothing / z.shape[1] * weights
    if t.ndim == 1:
        own = np.where(_label_weight(t, class_weight, ignore_index) > 0, weights[t], np.inf)
        t = (1 - label_smoothing) * np.eye(z.shape[1])[t] + uniform / own[:, None]
    else:
        t = (1 - label_smoothing) * t * weights + uniform
    t = t.astype(z.dtype)
    values = (t * (log_sum_exp(z) - z)).sum(axis=1)
    return values, t.sum(axis=1, keepdims=True) * softmax(z) - t


def _label_weight(t, class_weight=None, ignore_index=None):
    """What cross_entropy makes of labels (B,): the weight of each sample."""
    w = np.ones(len(t)) if class_weight is None else np.asarray(class_weight, float)[t]
    return w if ignore_index is None else np.where(t == ignore_index, 0, w)


def bce_with_logits(z, t, pos_weight=None):
    """mean_c ((1 - t_c) softplus(z_c) + p_c t_c softplus(-z_c)), p = pos_weight. t: (B, C), in [0, 1]."""
    p = np.ones(z.shape[1], z.dtype) if pos_weight is None else np.asarray(pos_weight, z.dtype)
    values = (1 - t) * softplus(z) + p * t * softplus(-z)
    return values.mean(axis=1), ((1 - t) * sigmoid(z) - p * t * sigmoid(-z)) / z.shape[1]


def focal(z, t, gamma=2.0, alpha=None):
    """-(1 - p)^gamma log p. t: labels (B,), p = softmax(z)_t; or 0 and 1 (B, C), the mean over c of
    each side's, p = sigmoid(+-z_c), times alpha for 1 and 1 - alpha for 0 unless alpha is None."""
    if t.ndim == 1:
        one = np.eye(z.shape[1], dtype=z.dtype)[t]
        p = softmax(z)
        rest, own = ((1 - one) * p).sum(axis=1), (one * p).sum(axis=1)
        surprise = (one * (log_sum_exp(z) - z)).sum(axis=1)
        slope = rest**gamma * (1 + gamma * own * surprise / np.maximum(rest, 1e-300))
        return rest**gamma * surprise, slope[:, None] * (p - one)
    side = np.where(t > 0.5, 1.0, -1.0)
    weight = 1.0 if alpha is None else np.where(t > 0.5, alpha, 1 - alpha)
    p, rest, surprise = sigmoid(side * z), sigmoid(-side * z), softplus(-side * z)
    values = weight * rest**gamma * surprise
    delta = -side * weight * rest**gamma * (gamma * p * surprise + rest)
    return values.mean(axis=1), delta / z.shape[1]


def mse(z, t):
    """mean_c (z_c - t_c)^2. t: (B, C)."""
    d = z - t
    return (d * d).mean(axis=1), 2 * d / z.shape[1]


def mae(z, t):
    """mean_c |z_c - t_c|, with gradient 0 where z_c = t_c. t: (B, C)."""
    d = z - t
    return np.abs(d).mean(axis=1), np.sign(d) / z.shape[1]


def huber(z, t, delta=1.0):
    """mean_c (d_c^2 / 2 where |d_c| <= delta, else delta (|d_c| - delta / 2)), d = z - t. t: (B, C)."""
    d = z - t
    values = np.where(np.abs(d) <= delta, 0.5 * d * d, delta * (np.abs(d) - 0.5 * delta))
    return values.mean(axis=1), np.clip(d, -delta, delta) / z.shape[1]


def log_cosh(z, t):
    """mean_c log(cosh(z_c - t_c)). t: (B, C)."""
    d = np.abs(z - t)
    near = np.log1p(2 * np.sinh(0.5 * np.minimum(d, 1)) ** 2)  # cosh(d) - 1 = 2 sinh(d / 2)^2
    values = np.where(d < 1, near, d + np.log1p(np.exp(-2 * d)) - math.log(2))
    return values.mean(axis=1), np.tanh(z - t) / z.shape[1]


def quantile(z, t, quantiles=(0.5,)):
    """mean_c of q (t - z) where t > z, else (q - 1) (t - z). z: (B, K Q), t: (B, K), Q quantiles."""
    q = np.tile(quantiles, t.shape[1])
    d = np.repeat(t, len(quantiles), axis=1) - z
    slope = np.where(d > 0, -q, np.where(d < 0, 1 - q, 0))
    return np.where(d > 0, q * d, (q - 1) * d).mean(axis=1), slope / z.shape[1]


def poisson_nll(z, t):
    """mean_c (exp(z_c) - t_c z_c). t: (B, C), at least 0."""
    return (np.exp(z) - t * z).mean(axis=1), (np.exp(z) - t) / z.shape[1]


def gamma_nll(z, t):
    """mean_c (z_c + t_c exp(-z_c)). t: (B, C), above 0."""
    return (z + t * np.exp(-z)).mean(axis=1), (1 - t * np.exp(-z)) / z.shape[1]


def gaussian_nll(z, t, eps=1e-6):
    """mean_k (log v_k + (m_k - t_k)^2 / v_k) / 2, z = m, log v: (B, 2 K), t: (B, K); v at least eps."""
    m, s = np.split(z, 2, axis=1)
    s = np.maximum(s, math.log(eps))
    d, v = m - t, np.exp(s)
    delta = np.hstack([d / v, 0.5 * (1 - d * d / v)])
    return (0.5 * (s + d * d / v)).mean(axis=1), delta / m.shape[1]


def hinge(z, t, margin=1.0):
    """t: (B, C), above 0 for yes: mean_c max(0, margin - y_c z_c), y = 1 for yes, else -1; or labels (B,):
    the mean over all c of max(0, margin - z_t + z_c), c not t."""
    if t.ndim == 1:
        own = np.eye(z.shape[1], dtype=bool)[t]
        short = np.where(own, 0, margin - z[own][:, None] + z)
        wrong = (short > 0).astype(z.dtype)
        delta = np.where(own, -wrong.sum(axis=1, keepdims=True), wrong)
        return np.maximum(short, 0).mean(axis=1), delta / z.shape[1]
    y = np.where(t > 0, 1.0, -1.0)
    short = margin - y * z
    return np.maximum(short, 0).mean(axis=1), np.where(short > 0, -y, 0) / z.shape[1]


def cosine(z, t):
    """1 - z t / (|z| |t|), squared lengths raised by 1e-12. t: (B, C)."""
    zz, tt = (z * z).sum(axis=1) + 1e-12, (t * t).sum(axis=1) + 1e-12
    similarity = (z * t).sum(axis=1) / np.sqrt(zz * tt)
    delta = z * (similarity / zz)[:, None] - t / np.sqrt(zz * tt)[:, None]
    return 1 - similarity, delta


LOSSES = {
    "cross_entropy": cross_entropy,
    "bce_with_logits": bce_with_logits,
    "mse": mse,
    "mae": mae,
    "huber": huber,
    "focal": focal,
    "log_cosh": log_cosh,
    "quantile": quantile,
    "poisson_nll": poisson_nll,
    "gamma_nll": gamma_nll,
    "gaussian_nll": gaussian_nll,
    "hinge": hinge,
    "cosine": cosine,
}


def gaussian_link(z, eps=1e-6):
    m, s = np.split(z, 2, axis=1)
    return np.hstack([m, np.exp(np.maximum(s, math.log(eps)))])


LINKS = {  # the others predict z itself
    "cross_entropy": softmax,
    "bce_with_logits": sigmoid,
    "focal": sigmoid,
    "focal/labels": softmax,
    "poisson_nll": np.exp,
    "gamma_nll": np.exp,
    "gaussian_nll": gaussian_link,
}


def loss_and_delta(name, z, t, sample_weight=None, **constants):
    """The mean loss of a batch, a float, and its gradient with respect to z (B, C).

    t: (B, C), or (B,) when C is 1; gaussian_nll and quantile: (B, K); for cross_entropy, focal and
    hinge also integer labels (B,). sample_weight: (B,), not all zero. constants: the loss's own.
    """
    t = np.asarray(t)
    labels = name in ("cross_entropy", "focal", "hinge") and t.ndim == 1 and z.shape[1] > 1
    if not labels:  # (B,) against (B, 1) would broadcast to (B, B)
        t = t.reshape(len(z), -1).astype(z.dtype)
    w = np.ones(len(z)) if sample_weight is None else np.asarray(sample_weight, dtype=float)
    if labels and name == "cross_entropy":
        w = w * _label_weight(t, constants.get("class_weight"), constants.get("ignore_index"))
    share = (w / w.sum()).astype(z.dtype)  # of each sample in the mean
    values, delta = LOSSES[name](z, t, **constants)
    return float((share * values).sum()), share[:, None] * delta


def link(loss, z, **constants):
    """The prediction that the z (B, C) of a network trained with this loss stand for.

    loss: its name; "focal/labels" for focal with one class a sample.
    """
    return LINKS.get(loss, identity)(z, **constants)


# Backpropagation.


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


# Networks with more: norm between z and the activation, dropout, a skip around the layer, embeddings.

NORM_EPS, MOMENTUM = 1e-5, 0.1  # torch.nn.LayerNorm's and BatchNorm1d's


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
    axis = 1 if kind == "layer" else 0
    mean, variance = statistics or (z.mean(axis=axis, keepdims=True), z.var(axis=axis, keepdims=True))
    inverse = 1 / np.sqrt(variance + NORM_EPS)
    return (z - mean) * inverse, inverse


def normalise_backward(g, hat, inverse, kind):
    """The gradient at z from the gradient g at the normalised numbers hat."""
    axis = 1 if kind == "layer" else 0
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
    params, x, t, activations, loss, norms, skips, masks, sample_weight=None, statistics=None
):
    """The mean loss of a batch, its gradients, shaped as params, and its gradient with respect to x."""
    layers = layers_forward(params, x, activations, norms, skips, masks, statistics)
    value, total = loss_and_delta(loss, layers[-1]["a"], t, sample_weight)
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


# Optimizers, one array at a time: p and the slots change in place. step is 1 at the first.


def sgd(p, g, buf, step, lr=0.01, momentum=0.0, dampening=0.0, nesterov=False, weight_decay=0.0):
    g = g + weight_decay * p
    if momentum != 0:
        # torch: the first gradient enters the buffer undamped
        buf[...] = g if step == 1 else momentum * buf + (1 - dampening) * g
        g = g + momentum * buf if nesterov else buf
    p -= lr * g


def _moments(g, m, v, betas):
    m[...] = betas[0] * m + (1 - betas[0]) * g
    v[...] = betas[1] * v + (1 - betas[1]) * g * g


def adam(p, g, m, v, step, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
    g = g + weight_decay * p
    _moments(g, m, v, betas)
    m_hat = m / (1 - betas[0] ** step)
    v_hat = v / (1 - betas[1] ** step)
    p -= lr * m_hat / (np.sqrt(v_hat) + eps)


def adamw(p, g, m, v, step, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
    p *= 1 - lr * weight_decay
    adam(p, g, m, v, step, lr, betas, eps)


def amsgrad(p, g, m, v, top, step, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
    _moments(g + weight_decay * p, m, v, betas)
    np.maximum(top, v, out=top)
    root = np.sqrt(top / (1 - betas[1] ** step))
    p -= lr * m / (1 - betas[0] ** step) / (root + eps)


def nadam(p, g, m, v, step, lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, momentum_decay=4e-3,
          decoupled_weight_decay=False):  # fmt: skip
    g = _decayed(p, g, lr, weight_decay, decoupled_weight_decay)
    _moments(g, m, v, betas)
    mu = [betas[0] * (1 - 0.5 * 0.96 ** (t * momentum_decay)) for t in range(1, step + 2)]
    size = np.sqrt(v / (1 - betas[1] ** step)) + eps
    p -= lr * (1 - mu[-2]) / (1 - math.prod(mu[:-1])) * g / size
    p -= lr * mu[-1] / (1 - math.prod(mu)) * m / size


def radam(p, g, m, v, step, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0,
          decoupled_weight_decay=False):  # fmt: skip
    _moments(_decayed(p, g, lr, weight_decay, decoupled_weight_decay), m, v, betas)
    m_hat, left = m / (1 - betas[0] ** step), 1 - betas[1] ** step
    end = 2 / (1 - betas[1]) - 1
    rho = end - 2 * step * betas[1] ** step / left
    if rho > 5:
        r = math.sqrt((rho - 4) * (rho - 2) * end / ((end - 4) * (end - 2) * rho))
        m_hat = m_hat * r * math.sqrt(left) / (np.sqrt(v) + eps)
    p -= lr * m_hat


def _decayed(p, g, lr, weight_decay, decoupled):
    """The gradient, with weight decay in it unless that is decoupled: then p itself shrinks."""
    if decoupled:
        p *= 1 - lr * weight_decay
        return g
    return g + weight_decay * p


def adamax(p, g, m, u, step, lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
    g = g + weight_decay * p
    m[...] = betas[0] * m + (1 - betas[0]) * g
    u[...] = np.maximum(betas[1] * u, np.abs(g) + eps)
    p -= lr / (1 - betas[0] ** step) * m / u


def rmsprop(p, g, v, mean, buf, step, lr=0.01, alpha=0.99, eps=1e-8, weight_decay=0.0, momentum=0.0,
            centered=False):  # fmt: skip
    g = g + weight_decay * p
    v[...] = alpha * v + (1 - alpha) * g * g
    if centered:
        mean[...] = alpha * mean + (1 - alpha) * g
    d = g / (np.sqrt(v - mean * mean) + eps)  # the mean stays 0 if not centered
    buf[...] = momentum * buf + d
    p -= lr * buf


def adagrad(p, g, total, step, lr=0.01, lr_decay=0.0, weight_decay=0.0, initial_accumulator_value=0.0,
            eps=1e-10):  # fmt: skip
    g = g + weight_decay * p
    total += g * g
    size = np.sqrt(initial_accumulator_value + total) + eps
    p -= lr / (1 + (step - 1) * lr_decay) * g / size


def adadelta(p, g, v, moved, step, lr=1.0, rho=0.9, eps=1e-6, weight_decay=0.0):
    g = g + weight_decay * p
    v[...] = rho * v + (1 - rho) * g * g
    d = np.sqrt(moved + eps) / np.sqrt(v + eps) * g
    moved[...] = rho * moved + (1 - rho) * d * d
    p -= lr * d


def lion(p, g, m, step, lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0):
    p *= 1 - lr * weight_decay
    p -= lr * np.sign(betas[0] * m + (1 - betas[0]) * g)
    m[...] = betas[1] * m + (1 - betas[1]) * g


OPTIMIZERS = {  # name: (the update of one array, torch's names of its slots)
    "SGD": (sgd, ["momentum_buffer"]),
    "Adam": (adam, ["exp_avg", "exp_avg_sq"]),
    "AdamW": (adamw, ["exp_avg", "exp_avg_sq"]),
    "AMSGrad": (amsgrad, ["exp_avg", "exp_avg_sq", "max_exp_avg_sq"]),
    "NAdam": (nadam, ["exp_avg", "exp_avg_sq"]),
    "RAdam": (radam, ["exp_avg", "exp_avg_sq"]),
    "Adamax": (adamax, ["exp_avg", "exp_inf"]),
    "RMSprop": (rmsprop, ["square_avg", "grad_avg", "momentum_buffer"]),
    "Adagrad": (adagrad, ["sum"]),
    "Adadelta": (adadelta, ["square_avg", "acc_delta"]),
    "Lion": (lion, ["exp_avg"]),
}


def init_state(name, params):
    """The state before the first step: {"step": 0, slot: [(like W, like b), ...], ...}, zeros."""
    state = {"step": 0}
    for slot in OPTIMIZERS[name][1]:
        state[slot] = [(np.zeros_like(W), np.zeros_like(b)) for W, b in params]
    return state


def clipped(grads, clip_norm=None, clip_layer_norm=None, clip_value=None):
    """Gradients scaled to a norm, over all parameters or each layer's, then cut off at +-clip_value."""

    def scaled(part, limit):
        norm = math.sqrt(sum((g * g).sum() for pair in part for g in pair))
        return [(dW * min(1, limit / (norm + 1e-6)), db * min(1, limit / (norm + 1e-6))) for dW, db in part]

    if clip_norm is not None:
        grads = scaled(grads, clip_norm)
    if clip_layer_norm is not None:
        grads = [scaled([pair], clip_layer_norm)[0] for pair in grads]
    if clip_value is not None:
        grads = [tuple(np.clip(g, -clip_value, clip_value) for g in pair) for pair in grads]
    return grads


def update(name, params, grads, state, hyper, l1=0.0, decay_bias=True, lr_factors=None, max_norm=None,
           ema=None):  # fmt: skip
    """One optimizer step; params and state change in place. hyper: dict of the non-defaults.

    l1 sign(p) is added to the gradient; without decay_bias biases have neither l1 nor weight decay;
    lr_factors: one a layer; max_norm: of the columns of W after the step; ema: state["average"] follows.
    """
    rule, slots = OPTIMIZERS[name]
    state["step"] += 1
    for k in range(len(params)):
        for i in range(2):  # W, then b: torch treats them alike, weight decay included
            p, g, own = params[k][i], grads[k][i], dict(hyper)
            if lr_factors is not None:
                own["lr"] = hyper["lr"] * lr_factors[k]
            if i == 0 or decay_bias:
                g = g + l1 * np.sign(p)
            else:
                own["weight_decay"] = 0.0
            rule(p, g, *[state[slot][k][i] for slot in slots], step=state["step"], **own)
        if max_norm is not None:
            norm = np.sqrt((params[k][0] ** 2).sum(axis=0))
            params[k][0][...] *= np.where(norm > max_norm, max_norm / (norm + 1e-7), 1)
    if ema is not None:
        if state["step"] == 1:
            state["average"] = [(W.copy(), b.copy()) for W, b in params]
        for mean, pair in zip(state["average"], params, strict=True):
            for m, p in zip(mean, pair, strict=True):
                m += (1 - ema) * (p - m)


def train(params, x, t, activations, loss, optimizer, hyper, batches, sample_weight=None, state=None,
          rates=None, accumulate=1, clip=None, **options):  # fmt: skip
    """Train from a fresh optimizer state on the given minibatches; params change in place.

    batches: index arrays into x, t and sample_weight, one per step, in order. rates: None or dicts of
    what changes in hyper, one an update; accumulate: batches an update, by the mean of their gradients;
    clip, options: of `clipped` and `update`. state: one to go on from, as `init_state` gives it.
    Returns the mean loss of each batch, as it was before the batch's step.
    """
    state = init_state(optimizer, params) if state is None else state
    losses, sums = [], []
    for n, rows in enumerate(batches):
        w = None if sample_weight is None else sample_weight[rows]
        value, grads = gradients(params, x[rows], t[rows], activations, loss, w)
        losses.append(value)
        sums.append(grads)
        if len(sums) < accumulate and n + 1 < len(batches):
            continue
        mean = [
            tuple(sum(part) / len(sums) for part in zip(*k, strict=True)) for k in zip(*sums, strict=True)
        ]
        now = hyper if rates is None else hyper | rates[state["step"]]
        update(optimizer, params, clipped(mean, **(clip or {})), state, now, **options)
        sums = []
    return losses
