"""Losses: z (B, C) and the targets t -> the loss of every sample (B,), its gradient to z (B, C)."""

import math
from statistics import NormalDist

import numpy as np

from .activations import identity, sigmoid, softplus


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


def ordered_quantiles(z, quantiles):
    """(quantiles that rise (B, K Q), the gradient of z from theirs): the lowest is z + n_1, each next one
    (n_Q - n_1) / (Q - 1) softplus(z) / log 2 higher; n: a standard normal's quantiles. z: (B, K Q), Q > 1."""
    count, (low, high) = len(quantiles), (NormalDist().inv_cdf(quantiles[i]) for i in (0, -1))
    parts = z.reshape(len(z), -1, count)
    step = z.dtype.type((high - low) / ((count - 1) * math.log(2)))
    rises = np.concatenate([parts[:, :, :1] + z.dtype.type(low), step * softplus(parts[:, :, 1:])], axis=2)

    def back(delta):
        sums = np.cumsum(delta.reshape(parts.shape)[:, :, ::-1], axis=2)[:, :, ::-1]
        slopes = np.concatenate([np.ones_like(parts[:, :, :1]), step * sigmoid(parts[:, :, 1:])], axis=2)
        return (sums * slopes).reshape(z.shape)

    return np.cumsum(rises, axis=2).reshape(z.shape), back


def quantile(z, t, quantiles=(0.5,), ordered=False):
    """mean_c of q (t - z) where t > z, else (q - 1) (t - z). z: (B, K Q), t: (B, K), Q quantiles; ordered: of
    the ordered quantiles that z stand for."""
    if ordered:
        y, back = ordered_quantiles(z, quantiles)
        values, delta = quantile(y, t, quantiles)
        return values, back(delta)
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
    "quantile": lambda z, quantiles=(), ordered=False: ordered_quantiles(z, quantiles)[0] if ordered else z,
}


def loss_and_delta(name, z, t, sample_weight=None, **constants):
    """The mean loss of a batch, a float, and its gradient with respect to z (B, C).

    t: (B, C), or (B,) when C is 1; gaussian_nll and quantile: (B, K); for cross_entropy, focal and
    hinge also integer labels (B,). sample_weight: (B,), not all zero, or one for each target, see
    `by_target`. constants: the loss's own.
    """
    t = np.asarray(t)
    if np.ndim(sample_weight) == 2:
        return by_target(name, z, t.reshape(len(z), -1), np.asarray(sample_weight, float), constants)
    labels = name in ("cross_entropy", "focal", "hinge") and t.ndim == 1 and z.shape[1] > 1
    if not labels:  # (B,) against (B, 1) would broadcast to (B, B)
        t = t.reshape(len(z), -1).astype(z.dtype)
    w = np.ones(len(z)) if sample_weight is None else np.asarray(sample_weight, dtype=float)
    if labels and name == "cross_entropy":
        w = w * _label_weight(t, constants.get("class_weight"), constants.get("ignore_index"))
    share = (w / w.sum()).astype(z.dtype)  # of each sample in the mean
    values, delta = LOSSES[name](z, t, **constants)
    return float((share * values).sum()), share[:, None] * delta


def by_target(name, z, t, weight, constants):
    """sum of weight_ik loss_ik / sum of weight_ik, loss_ik that of sample i's target k alone; its gradient.

    t, weight: (B, K). Where the weight is 0, t may be anything, NaN too.
    """
    each, value, delta = z.shape[1] // t.shape[1], 0.0, np.zeros_like(z)
    share = (weight / weight.sum()).astype(z.dtype)
    for k in range(t.shape[1]):
        known, own = weight[:, k] > 0, dict(constants)
        if not known.any():
            continue
        columns = np.arange(k * each, (k + 1) * each)
        if name == "gaussian_nll":
            columns = np.array([k, t.shape[1] + k])
        if constants.get("pos_weight") is not None:
            own["pos_weight"] = [constants["pos_weight"][k]]
        at = np.ix_(known, columns)
        values, slopes = LOSSES[name](z[at], t[known, k][:, None].astype(z.dtype), **own)
        value += float((share[known, k] * values).sum())
        delta[at] = share[known, k][:, None] * slopes
    return value, delta


def link(loss, z, **constants):
    """The prediction that the z (B, C) of a network trained with this loss stand for.

    loss: its name; "focal/labels" for focal with one class a sample.
    """
    return LINKS.get(loss, identity)(z, **constants)
