"""Gradients of outputs: of the inputs, and of the parameters from a gradient that is given."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..custom import functions
from ..data import checks
from ..engine import sessions
from ..engine.samples import Behind, features, offsets, own_scale
from ..errors import flag
from ..kernels import codes
from ..network.gradients import Gradients
from ..network.layout import arena

if TYPE_CHECKING:
    from ..engine.anytrainer import AnyTrainer
    from ..types import Array, Features, Floats, Offset


def loss_code(trainer: AnyTrainer, link: bool) -> int:
    """The code of the loss whose targets are gradients of what predict gives, or, without link, forward."""
    linked = flag("link", link)
    return functions.pulled(trainer.loss.link_code(trainer.net.sizes[-1]) if linked else None)


def open_session(trainer: AnyTrainer, batch: int, code: int) -> Any:
    """A session where all layers stay as they are: it makes the gradient of the inputs alone."""
    every, nothing = range(len(trainer.net.layers)), arena(0, trainer.net.dtype)
    return sessions.open_session(
        trainer, batch, code, nothing, frozen=every, seeks=True, behind=Behind(offsets=True)
    )


def input_gradients(
    trainer: AnyTrainer, session: Any, X: Features, output: Any, link: bool, offset: Offset
) -> Floats:
    """What Trainer.input_gradients returns, by a session of ``open_session`` with its parameters set."""
    rows, dtype = features(trainer, X), trainer.net.dtype
    added = offsets(trainer, offset, len(rows))
    count, outputs, inputs = len(rows), trainer.net.sizes[-1], trainer.net.sizes[0]
    if output is None:
        found = np.empty((count, outputs, inputs), dtype)
        parts = [(found[:, k], one) for k, one in enumerate(np.eye(outputs, dtype=dtype))]
    else:
        found = np.empty((count, inputs), dtype)
        parts = [(found, _wanted(output, count, outputs, dtype))]
    batch = int(session.table[codes.P_BATCH])
    for out, given in parts:
        _bind(session, rows, _in_network(trainer, np.broadcast_to(given, (count, outputs)), link), added)
        for step in session.each(codes.GRADIENTS, -(-count // batch)):
            place = out[step * batch :][:batch]
            _put(trainer.net, place, session.input_rows(len(place)))
    session.release()
    return found if trainer.preparation is None else trainer.preparation.input_gradients(found, X)


def gradients_from(
    trainer: AnyTrainer, X: Features, output_gradient: Any, link: bool, offset: Offset
) -> Gradients:
    """What Trainer.gradients_from returns."""
    rows, net = features(trainer, X), trainer.net
    given = checks.output_gradients("output_gradient", output_gradient, len(rows), net.sizes[-1], net.dtype)
    checks.check_batches(net.norms, len(rows), len(rows))
    grads = arena(net.params.size, net.dtype)
    added = offsets(trainer, offset, len(rows))
    behind = Behind(offsets=added is not None)
    session = sessions.open_session(trainer, len(rows), loss_code(trainer, link), grads, behind=behind)
    _bind(session, rows, _in_network(trainer, given, link), added)
    for _ in session.windows(codes.GRADIENTS, 1):
        pass
    return Gradients(net, grads)


def _bind(session, rows, given, added):
    if added is None:
        session.bind(rows, given)
    else:
        session.bind(rows, np.hstack([given, added]), offsets=added.shape[1])


def _put(net, out, gradient):
    """The gradient of layer 0's inputs to the columns of X: NaN where a column holds categories."""
    if not net.embedded:
        out[:] = gradient
        return
    columns = {column for column, _, _ in net.embedded}
    numeric = [c for c in range(net.sizes[0]) if c not in columns]
    out[:] = np.nan
    out[:, numeric] = gradient[:, : len(numeric)]


def _wanted(output: Any, rows: int, outputs: int, dtype: Any) -> Array:
    """Gradients of outputs: what stands for an output's number, (outputs,), or is given, (rows, outputs)."""
    takes = f"takes the number of an output, 0 to {outputs - 1}, None for all, or gradients"
    try:
        place = operator.index(output)
    except TypeError:
        return checks.output_gradients("output", output, rows, outputs, dtype, takes)
    if not -outputs <= place < outputs:
        raise IndexError(f"output: got {place}, {takes}")
    return np.eye(outputs, dtype=dtype)[place]


def _in_network(trainer: AnyTrainer, given: Array, link: bool) -> Array:
    """Gradients of outputs in the target's own units, as those of what the network gives."""
    scale = own_scale(trainer, given.shape[1], link)
    return given if scale is None else (given * scale[1]).astype(given.dtype)
