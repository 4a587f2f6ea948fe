"""Activations, elementwise: f and f', both functions of z. slope and alpha are torch's negative_slope and
alpha."""

import math

import numpy as np

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
    return np.where(z <= -3, 0, np.where(z >= 3, 1, z / 3 + 0.5))


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
