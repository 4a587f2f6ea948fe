"""Activations and losses of the user's own, from scalar Python functions: fb.activation, fb.loss."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import math
from ..errors import flag
from ..kernels import codes, loss_formulas
from ..losses import LOSSES
from ..losses.base import Loss
from ..network import activations
from .tracing import Graph, differentiate, text, trace

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..types import Array, Link

LINKED = {  # links -> codes that have them
    "identity": codes.MSE,
    "sigmoid": codes.BCE_WITH_LOGITS,
    "exp": codes.POISSON_NLL,
    "softmax": codes.CROSS_ENTROPY,
}
DEFINITIONS: list[str] = []  # a code is codes.USER + a place in here
POINTS = np.array([-7.3, -3.1, -1.7, -0.9, -0.41, -0.13, 0.17, 0.37, 0.83, 1.3, 2.9, 6.1])


def definition(code: int) -> str:
    """The text of a user's function, for the device to compile."""
    return DEFINITIONS[code - codes.USER]


def code_of(text: str) -> int:
    """The code of a definition."""
    if text not in DEFINITIONS:
        DEFINITIONS.append(text)
    return codes.USER + DEFINITIONS.index(text)


def weighed(code: int) -> int:
    """The code of the loss ``code``, ours or the user's, with a weight for each output."""
    known = json.loads(definition(code)) if code >= codes.USER else {"kind": "loss", "code": code}
    return code_of(json.dumps({**known, "weighed": True}, separators=(",", ":")))


def pulled(code: int | None) -> int:
    """The code of the loss whose targets are the gradient of what outputs stand for, by the link of the loss
    ``code``, or of outputs themselves."""
    pull = code if code in loss_formulas.PULL else codes.MSE
    return code_of(json.dumps({"kind": "loss", "pull": pull}, separators=(",", ":")))


def evaluate(definition: str, *inputs: Any) -> list[Array]:
    """(value, slope) of a definition in NumPy, float64: what the compiled one is held to."""
    content = json.loads(definition)
    values: list[Any] = []
    with np.errstate(all="ignore"):
        for name, *operands in content["nodes"]:
            if name == "input":
                values.append(np.asarray(inputs[operands[0]], np.float64))
            elif name == "constant":
                values.append(np.float64(operands[0]))
            else:
                values.append(math.numpy_function(name)(*(values[i] for i in operands)))
    shape = np.broadcast_shapes(*(np.shape(x) for x in inputs))
    return [np.broadcast_to(values[i], shape) for i in content["wanted"]]


def _register(
    kind: str,
    function: Callable[..., Any],
    derivative: Callable[..., Any] | None,
    name: str | None,
    arguments: int,
    check: bool,
) -> tuple[str, int]:
    """(full name, code): the function traced, its derivative derived or traced too."""
    what = f"{kind} {name or getattr(function, '__name__', '')!r}"
    check = flag(f"{kind} check", check)
    if not callable(function):
        raise TypeError(f"{kind}: got {function!r}, takes a function of {arguments} scalar(s)")
    graph = Graph(arguments)
    try:
        value = trace(graph, function)
        exact = differentiate(graph, value, 0)
        slope = exact if derivative is None else trace(graph, derivative)
    except (TypeError, ValueError, AttributeError, RecursionError) as e:
        raise type(e)(
            f"{what}: {e}. Takes a function of {arguments} scalar(s) made of arithmetic, conditions and "
            "the functions of fastbp.math (or numpy's and math's of those names)"
        ) from e
    known = text(kind, graph, [value, slope])
    points = [POINTS] if arguments == 1 else [a.ravel() for a in np.meshgrid(POINTS, POINTS + 0.05)]
    if derivative is not None and check:
        ours, theirs = evaluate(text(kind, graph, [value, exact]), *points)[1], evaluate(known, *points)[1]
        wrong = np.abs(ours - theirs) > 1e-6 * (1 + np.abs(ours))
        if wrong.any():
            i = int(np.argmax(wrong))
            raise ValueError(
                f"{what}: got a derivative that is {theirs[i]:.6g} at {points[0][i]}, where the function's "
                f"is {ours[i]:.6g}; takes the function's, none, or check=False if it is meant"
            )
    at_zero = evaluate(known, *[np.zeros(1)] * arguments)
    if kind == "activation" and not np.isfinite(at_zero).all():
        raise ValueError(
            f"{what}: is {at_zero[0][0]} with slope {at_zero[1][0]} at 0, takes finite ones there"
        )
    short = name or getattr(function, "__name__", "function").strip("<>")
    full = f"{short}#{hashlib.sha256(known.encode()).hexdigest()[:12]}"
    return full, code_of(known)


def activation(
    function: Callable[[Any], Any],
    derivative: Callable[[Any], Any] | None = None,
    *,
    name: str | None = None,
    check: bool = True,
) -> str:
    """An activation of your own: f(z) of one scalar, for MLP(activation=...).

    function : of a scalar z, plain Python or numba-jitted: arithmetic, comparisons, if, min, max, abs, loops
        of fixed length, helper functions, and the functions of fastbp.math, or math's and numpy's of the
        same names. It is not called while training: its formula is read off once and compiled into vectors
        in parts of a second, and kept on disk.
    derivative : f'(z), written alike; None derives it, exactly. It must be f' unless check is False.
    name : by default the function's; MLP(activation=name) then works too.

    Returns the name to give to MLP, which ends in a digest of the formula: a model that was saved with it
    loads where the same function has been made again. Raises ValueError or TypeError for what cannot be read.

    >>> wave = fb.activation(lambda z: z * fb.math.sin(z), name="wave")
    >>> fb.MLP([4, 8, 3], wave).activations == [wave]
    True
    """
    full, code = _register("activation", function, derivative, name, 1, check)
    activations.USERS[full], activations.LAST[full.partition("#")[0]] = code, full
    return full


class UserLoss(Loss):
    """A loss of the user's own; see ``loss``."""

    def __init__(self, name: str, code: int, link: Link, ignore_nan: bool = False) -> None:
        self.name, self._code, self.link, self.ignore_nan = name, code, link, ignore_nan

    def config(self) -> dict[str, Any]:
        return {"name": self.name} | ({"ignore_nan": True} if self.ignore_nan else {})

    def code(self, outputs: int) -> int:
        return self._code

    def link_code(self, outputs: int) -> int:
        return LINKED[self.link]

    def __repr__(self) -> str:
        return f"UserLoss({self.name!r}, link={self.link!r})"


def loss(
    function: Callable[[Any, Any], Any],
    derivative: Callable[[Any, Any], Any] | None = None,
    *,
    name: str | None = None,
    link: Link = "identity",
    check: bool = True,
    ignore_nan: bool = False,
) -> UserLoss:
    """A loss of your own: l(z, t) of an output and its target, for Trainer(loss=...).

    A sample's loss is the mean over its outputs. function, derivative (d l / d z), name, check: as for
    ``activation``, but of two scalars. link : what predict makes of outputs: identity, sigmoid, exp, softmax.
    Targets: (N, outputs), or (N,) for one output. ignore_nan : whether those that are NaN count for nothing.
    Returns the loss; raises as ``activation`` does.

    >>> tilted = fb.loss(lambda z, t: (z - t) ** 2 if z < t else 3 * (z - t) ** 2, name="tilted")
    >>> loss_of(tilted, [[0.0], [2.0]], [[1.0], [1.0]])
    2.0
    """
    if link not in LINKED:
        raise ValueError(f"loss link: got {link!r}, takes one of {', '.join(LINKED)}")
    full, code = _register("loss", function, derivative, name, 2, check)
    full = full if link == "identity" else f"{full}-{link}"
    made = {flag: UserLoss(full, code, link, flag) for flag in (False, True)}
    LOSSES[full] = lambda ignore_nan=False: made[ignore_nan]
    return made[flag("loss ignore_nan", ignore_nan)]
