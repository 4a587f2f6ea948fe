"""Optimizers, options and a network that several tests train with; how far the way gone is off."""

import harness as h
import numpy as np

import fastbp as fb

SIZES = [9, 33, 17, 5]

# every rule and switch; float32 with an eps that keeps steps from hanging on the sign of rounding
OPTIMIZERS = {
    "sgd": fb.SGD(0.05),
    "sgd_decay": fb.SGD(0.05, weight_decay=0.1),
    "momentum": fb.SGD(0.05, momentum=0.9, dampening=0.3, weight_decay=0.01),
    "nesterov": fb.SGD(0.02, momentum=0.9, nesterov=True),
    "adam": fb.Adam(0.003, eps=1e-3),
    "adam_decay": fb.Adam(0.003, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.1),
    "adamw": fb.AdamW(0.003, eps=1e-3, weight_decay=0.3),
    "amsgrad": fb.Adam(0.003, eps=1e-3, amsgrad=True),
    "amsgrad_decay": fb.Adam(0.003, betas=(0.8, 0.9), eps=1e-3, amsgrad=True, weight_decay=0.1),
    "nadam": fb.NAdam(0.003, eps=1e-3),
    "nadam_decay": fb.NAdam(0.003, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.1, momentum_decay=0.1),
    "nadam_decoupled": fb.NAdam(0.003, eps=1e-3, weight_decay=0.3, decoupled_weight_decay=True),
    "radam": fb.RAdam(0.01, eps=1e-3),
    "radam_decay": fb.RAdam(0.01, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.1),
    "radam_decoupled": fb.RAdam(0.01, eps=1e-3, weight_decay=0.3, decoupled_weight_decay=True),
    "adamax": fb.Adamax(0.003, eps=1e-3),
    "adamax_decay": fb.Adamax(0.003, betas=(0.8, 0.9), eps=1e-3, weight_decay=0.1),
    "rmsprop": fb.RMSprop(0.003, eps=1e-2),
    "rmsprop_momentum": fb.RMSprop(0.001, alpha=0.9, eps=1e-2, momentum=0.8, weight_decay=0.1),
    "rmsprop_centered": fb.RMSprop(0.003, eps=1e-2, centered=True),
    "rmsprop_all": fb.RMSprop(0.001, eps=1e-2, momentum=0.8, centered=True, weight_decay=0.1),
    "adagrad": fb.Adagrad(0.01, eps=1e-3),
    "adagrad_all": fb.Adagrad(0.01, lr_decay=0.1, weight_decay=0.1, initial_accumulator_value=0.1, eps=1e-3),
    "adadelta": fb.Adadelta(1.0, eps=1e-4),
    "adadelta_decay": fb.Adadelta(0.5, rho=0.8, eps=1e-4, weight_decay=0.1),
    # running means that keep little of themselves, or nothing
    "adam_short": fb.Adam(0.003, betas=(0.0, 0.2), eps=1e-2),
    "nadam_short": fb.NAdam(0.003, betas=(0.3, 0.0), eps=1e-2, weight_decay=0.1),
    "rmsprop_short": fb.RMSprop(0.001, alpha=0.2, eps=1e-2, momentum=0.8, centered=True),
    "adadelta_short": fb.Adadelta(1.0, rho=0.1, eps=1e-4),
    "lion_short": fb.Lion(0.001, betas=(0.2, 0.0)),
    "lion": fb.Lion(0.001),
    "lion_decay": fb.Lion(0.001, betas=(0.8, 0.95), weight_decay=0.3),
}
FULL = {"clip_value": 0.004, "l1": 0.01, "decay_bias": False, "lr_factors": [0.5, 2, 1.5], "ema": 0.9}
OPTIONS = {
    "clip_norm": {"clip_norm": 0.1},
    "clip_layer_norm": {"clip_layer_norm": 0.05},
    "clip_value": {"clip_value": 0.004},
    "l1": {"l1": 0.01},
    "decay_bias": {"decay_bias": False},
    "lr_factors": {"lr_factors": [0, 2, 0.5]},
    "max_norm": {"max_norm": 0.8},
    "accumulate": {"accumulate": 3},
    "ema": {"ema": 0.9},
    "ema_max_norm": {"ema": 0.9, "max_norm": 0.8},
    "fused": FULL | {"max_norm": 0.9},
    "stored": FULL | {"max_norm": 0.9, "accumulate": 2, "clip_layer_norm": 0.05},
    "stored_norm": FULL | {"accumulate": 4, "clip_norm": 0.1},
}
WITH = {
    "sgd": fb.SGD(0.3, momentum=0.8, weight_decay=0.1),
    "adamw": fb.AdamW(0.01, eps=1e-3, weight_decay=0.3),
    "rmsprop": fb.RMSprop(0.003, eps=1e-2, momentum=0.5, weight_decay=0.1),
}


def problem(rng, rows=72):
    """Classes and inputs without a sample that is the same as another."""
    return rng.standard_normal((rows, SIZES[0])), rng.integers(0, SIZES[-1], rows)


def network(dtype="float32", seed=2):
    net = fb.MLP(SIZES, "tanh", seed=seed, dtype=dtype)
    for k, b in enumerate(net.biases):
        b[:] = np.random.default_rng(k).uniform(-0.3, 0.3, b.shape)
    return net


def params64(net):
    return [(w.astype(float), b.astype(float)) for w, b in zip(net.weights, net.biases, strict=True)]


def flat(pairs):
    return np.concatenate([np.ravel(a) for pair in pairs for a in pair]).astype(float)


def hyper(optimizer):
    """(name, hyperparameters) as the reference takes them."""
    config = optimizer.config()
    del config["name"]
    name = type(optimizer).__name__
    return "AMSGrad" if config.pop("amsgrad", False) else name, config


def batches_of(rows, size, epochs):
    return [np.arange(s, min(s + size, rows)) for s in range(0, rows, size)] * epochs


def way(got, exact, start):
    """Error of the way gone, not of the weights, which hide it."""
    return h.relative(flat(got) - flat(start), flat(exact) - flat(start))
