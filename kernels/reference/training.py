"""Training from a fresh optimizer state on given minibatches."""

from .network import gradients
from .optimizers import clipped, init_state, update


def train(params, x, t, activations, loss, optimizer, hyper, batches, *, sample_weight=None, state=None,
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
