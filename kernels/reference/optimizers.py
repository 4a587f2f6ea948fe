"""Optimizers, one array at a time: p and the slots change in place. step is 1 at the first."""

import math

import numpy as np


def sgd(p, g, buf, step, *, lr=0.01, momentum=0.0, dampening=0.0, nesterov=False, weight_decay=0.0):
    g = g + weight_decay * p
    if momentum != 0:
        # torch: the first gradient enters the buffer undamped
        buf[...] = g if step == 1 else momentum * buf + (1 - dampening) * g
        g = g + momentum * buf if nesterov else buf
    p -= lr * g


def _moments(g, m, v, betas):
    m[...] = betas[0] * m + (1 - betas[0]) * g
    v[...] = betas[1] * v + (1 - betas[1]) * g * g


def adam(p, g, m, v, step, *, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
    g = g + weight_decay * p
    _moments(g, m, v, betas)
    m_hat = m / (1 - betas[0] ** step)
    v_hat = v / (1 - betas[1] ** step)
    p -= lr * m_hat / (np.sqrt(v_hat) + eps)


def adamw(p, g, m, v, step, *, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
    p *= 1 - lr * weight_decay
    adam(p, g, m, v, step, lr=lr, betas=betas, eps=eps)


def amsgrad(p, g, m, v, top, step, *, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
    _moments(g + weight_decay * p, m, v, betas)
    np.maximum(top, v, out=top)
    root = np.sqrt(top / (1 - betas[1] ** step))
    p -= lr * m / (1 - betas[0] ** step) / (root + eps)


def nadam(p, g, m, v, step, *, lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, momentum_decay=4e-3,
          decoupled_weight_decay=False):  # fmt: skip
    g = _decayed(p, g, lr, weight_decay, decoupled_weight_decay)
    _moments(g, m, v, betas)
    mu = [betas[0] * (1 - 0.5 * 0.96 ** (t * momentum_decay)) for t in range(1, step + 2)]
    size = np.sqrt(v / (1 - betas[1] ** step)) + eps
    p -= lr * (1 - mu[-2]) / (1 - math.prod(mu[:-1])) * g / size
    p -= lr * mu[-1] / (1 - math.prod(mu)) * m / size


def radam(p, g, m, v, step, *, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0,
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


def adamax(p, g, m, u, step, *, lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
    g = g + weight_decay * p
    m[...] = betas[0] * m + (1 - betas[0]) * g
    u[...] = np.maximum(betas[1] * u, np.abs(g) + eps)
    p -= lr / (1 - betas[0] ** step) * m / u


def rmsprop(p, g, v, mean, buf, step, *, lr=0.01, alpha=0.99, eps=1e-8, weight_decay=0.0, momentum=0.0,
            centered=False):  # fmt: skip
    g = g + weight_decay * p
    v[...] = alpha * v + (1 - alpha) * g * g
    if centered:
        mean[...] = alpha * mean + (1 - alpha) * g
    d = g / (np.sqrt(v - mean * mean) + eps)  # the mean stays 0 if not centered
    buf[...] = momentum * buf + d
    p -= lr * buf


def adagrad(p, g, total, step, *, lr=0.01, lr_decay=0.0, weight_decay=0.0, initial_accumulator_value=0.0,
            eps=1e-10):  # fmt: skip
    g = g + weight_decay * p
    total += g * g
    size = np.sqrt(initial_accumulator_value + total) + eps
    p -= lr / (1 + (step - 1) * lr_decay) * g / size


def adadelta(p, g, v, moved, step, *, lr=1.0, rho=0.9, eps=1e-6, weight_decay=0.0):
    g = g + weight_decay * p
    v[...] = rho * v + (1 - rho) * g * g
    d = np.sqrt(moved + eps) / np.sqrt(v + eps) * g
    moved[...] = rho * moved + (1 - rho) * d * d
    p -= lr * d


def lion(p, g, m, step, *, lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0):
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


def update(name, params, grads, state, hyper, *, l1=0.0, decay_bias=True, lr_factors=None, max_norm=None,
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
