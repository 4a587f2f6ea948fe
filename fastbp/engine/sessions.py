"""What a trainer runs by: sessions on its device, its samples bound, its numbers, windows of steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..custom import functions
from ..data import checks
from ..kernels import codes
from ..network.gradients import Gradients
from ..schedules import schedule
from . import backend, parallel
from .options import Options
from .plan import Plan
from .rates import Updates
from .samples import NOTHING, Behind

if TYPE_CHECKING:
    from ..types import Doubles, Floats
    from .anytrainer import AnyTrainer
    from .samples import Samples


def open_session(
    trainer: AnyTrainer,
    batch: int,
    code: int,
    slots: Floats,
    second: bool = False,
    frozen: Sequence[int] = (),
    params: Floats | None = None,
    threads: int | None = None,
    seeks: bool = False,
    behind: Behind = NOTHING,
) -> Any:
    """A new session: on net.params or a copy, with ``threads`` or as many as the trainer takes.

    seeks: whether the gradient of the inputs is wanted; behind: what will stand behind the targets.
    """
    net, options = trainer.net, Options.of(trainer)
    fixed = threads is not None or trainer.threads is not None
    threads = threads or parallel.most_threads(net, batch, trainer.threads)
    code = functions.weighed(code) if behind.weights else code
    plan = Plan(
        net, code, update_code(trainer), batch, threads, second, frozen,
        trainer.loss.numbers(net.sizes[-1]), options.ema is not None, 1 + sum(behind), seeks,
    )  # fmt: skip
    session = backend.open_session(
        trainer.device, net.params if params is None else params, slots, plan, hyper(trainer), threads,
        fixed=fixed, work=parallel.step_work(net, batch),
    )  # fmt: skip
    session.updates = Updates.of(trainer)
    return session


def update_code(trainer: AnyTrainer) -> int:
    """The code of a trainer's update."""
    return Options.of(trainer).code(trainer.optimizer, schedule(trainer.schedule))


def frozen(trainer: AnyTrainer) -> tuple[int, ...]:
    """Numbers of the layers that stay as they are: frozen ones, and those whose factor of the rate is 0."""
    factors = Options.of(trainer).lr_factors or ()
    return tuple(sorted({*trainer.net.frozen, *(k for k, factor in enumerate(factors) if factor == 0)}))


def check(trainer: AnyTrainer) -> tuple[int, ...]:
    """``frozen``; raises ValueError where nothing can train, or not so."""
    layers = frozen(trainer)
    if len(layers) == len(trainer.net.layers):
        raise ValueError(
            "net: got all layers frozen, takes one or more that train: net.unfreeze(), lr_factors above 0"
        )
    every = Options.of(trainer).accumulate
    if trainer.gradient_hook is not None and every > 1:
        raise ValueError(f"accumulate: got {every} beside a gradient_hook, takes 1")
    return layers


def check_slots(trainer: AnyTrainer) -> None:
    """Raises ValueError for an optimizer that needs other arrays than the trainer has."""
    slots = Options.of(trainer).slots(trainer.optimizer)
    if trainer.slots.size != slots * trainer.net.params.size:
        raise ValueError(
            f"optimizer: {trainer.optimizer} keeps {slots} numbers per parameter (with the average of "
            "ema), not what this trainer began with; takes a new Trainer"
        )


def hyper(trainer: AnyTrainer) -> Doubles:
    """The options' numbers, as they are now."""
    return Options.of(trainer).hyper(len(trainer.net.layers))


def bind(trainer: AnyTrainer, session: Any, samples: Samples) -> float:
    """Bind samples, weights as the loss has them; returns the share of those whose weight is not 0, or, where
    targets have weights, of these."""
    outputs, dtype, count = trainer.net.sizes[-1], trainer.net.dtype, 0
    session.set_loss(functions.weighed(samples.code) if samples.by_output else samples.code)
    if samples.by_output:
        counted: Any = samples.weight
        y, made = samples.weighed(outputs, dtype)
    else:
        counted = made = loss_weights(trainer, samples)
        y = samples.y
    if samples.offset is not None:
        y, count = np.hstack([y.astype(dtype), samples.offset]), outputs
    session.bind(samples.X, y, made, offsets=count)
    return 1.0 if counted is None else np.count_nonzero(counted) / counted.size


def loss_weights(trainer: AnyTrainer, samples: Samples) -> Any:
    """The weights of samples as the loss has them: (N,), or None."""
    made = trainer.loss.weights(samples.weight, samples.y, samples.code)
    if made is not samples.weight:
        made = checks.weights(made, len(samples.y), trainer.net.dtype)
    return made


def training_windows(
    trainer: AnyTrainer, session: Any, steps: int, before: int
) -> Iterator[tuple[int, Any, Any, int]]:
    """session.windows of training, ``before`` updates made; step by step where there is a gradient_hook."""
    hook = trainer.gradient_hook
    if hook is None:
        return session.windows(codes.TRAIN, steps, before)
    gradients, turns = Gradients(trainer.net, session.gradient), trainer.turns
    state = turns.state

    def combine() -> None:
        outer, turns.place = turns.place, "the gradient_hook"
        state.release()  # who trains or diagnoses has it once: others may look at the weights meanwhile
        try:
            hook(gradients)
        finally:
            state.acquire()
            turns.place = outer

    return session.combined(steps, before, combine)


def divergence(trainer: AnyTrainer, lost: bool, loss: float, step: str) -> FloatingPointError:
    """What to raise where a pass of training has ended early, with this loss, in ``step`` (in words). lost :
    whether that step has changed weights."""
    advice = f"try a lower lr (now {trainer.optimizer.lr}), standardised inputs, clip_norm, or float64"
    if lost:
        return FloatingPointError(
            f"weights: became NaN or inf (they, or what the optimizer keeps) in {step}; what they were "
            f"before is lost: go on from a saved model, and {advice}"
        )
    return FloatingPointError(
        f"loss: became {loss} (it or its gradient) in {step}; the weights are as before that step. Takes a "
        f"finite loss: {advice}"
    )
