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
    with a weight for each target, the same over samples and targets;
    loss_i is itself a mean over the outputs, except where they are one answer: cross_entropy, cosine,
    focal with labels
Names, formulas and defaults are those of torch.nn.functional and torch.optim, at the kinks too.
"""

from .activations import ACTIVATIONS, SELU, activation, activation_derivative
from .losses import LINKS, LOSSES, cross_entropy, link, loss_and_delta
from .network import (
    NORMS,
    dropout_bits,
    dropout_mask,
    embed,
    embed_gradients,
    forward,
    gradients,
    layers_forward,
    layers_gradients,
)
from .optimizers import OPTIMIZERS, adamw, clipped, init_state, sgd, update
from .training import train

__all__ = [
    "ACTIVATIONS",
    "LINKS",
    "LOSSES",
    "NORMS",
    "OPTIMIZERS",
    "SELU",
    "activation",
    "activation_derivative",
    "adamw",
    "clipped",
    "cross_entropy",
    "dropout_bits",
    "dropout_mask",
    "embed",
    "embed_gradients",
    "forward",
    "gradients",
    "init_state",
    "layers_forward",
    "layers_gradients",
    "link",
    "loss_and_delta",
    "sgd",
    "train",
    "update",
]
