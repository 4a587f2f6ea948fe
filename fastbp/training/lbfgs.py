"""L-BFGS over SciPy: the compiled program gives loss and gradient of all samples, SciPy the steps."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..engine.options import Options
from ..engine.sessions import divergence
from .objective import Objective

if TYPE_CHECKING:
    from ..engine.anytrainer import AnyTrainer
    from ..engine.samples import Samples
    from ..types import Doubles


class Penalised:
    """Mean loss plus weight decay, and its gradient, of the flat parameters in float64."""

    def __init__(self, trainer: AnyTrainer, samples: Samples) -> None:
        self.net, self.evaluate = trainer.net, Objective(trainer, samples)
        self.decay = np.zeros(self.net.params.size)
        for name, view in self.net.named_views(self.decay, state=False).items():
            bare = not (trainer.decay_bias or name.startswith(("weights", "embeddings")))
            view[:] = 0.0 if bare else trainer.optimizer.weight_decay
        self.x: Any = None

    def __call__(self, x: Doubles) -> tuple[float, Doubles]:
        self.net.params[:] = x
        self.loss, gradient = self.evaluate()
        self.x = x.copy()
        penalised = self.loss + 0.5 * float(self.decay @ (x * x))
        if not (np.isfinite(penalised) and np.isfinite(gradient).all()):
            raise FloatingPointError
        return penalised, gradient + self.decay * x


class _Stop(Exception):
    """A callback has ended the fit."""


def prepare(fit: Any) -> Callable[[Any], object]:
    """How a fitting.Fit runs with the optimizer LBFGS: an iteration an epoch; checked."""
    try:
        from scipy.optimize import minimize
    except ImportError as error:
        raise ImportError("LBFGS: SciPy is needed: pip install 'fastbp[lbfgs]'") from error
    trainer = fit.trainer
    given = [name for name in Options.of(trainer).config() if name != "decay_bias"]
    given += [name for name in ("schedule", "gradient_hook") if getattr(trainer, name) is not None]
    if given:
        raise ValueError(f"{given[0]}: got {getattr(trainer, given[0])!r} with LBFGS, which takes none")
    if fit.drop_last:
        raise ValueError("drop_last: got True with LBFGS, which takes all samples at once")
    if "batch" in trainer.net.norms:  # no step of it sees the running statistics, which predict takes
        raise ValueError("norm: got 'batch' with LBFGS, takes None or 'layer'")
    if fit.seconds is not None:
        raise ValueError(f"seconds: got {fit.seconds} with LBFGS, which takes epochs")
    if trainer.net.frozen:
        raise ValueError(f"net: got frozen layers {trainer.net.frozen} with LBFGS, which trains all")
    return lambda session: fit.epochs and _run(fit, minimize)


def _run(fit, minimize):
    trainer, optimizer, state = fit.trainer, fit.trainer.optimizer, fit.trainer.turns.state
    objective = Penalised(trainer, fit.samples)
    accepted, began = trainer.net.params.astype(float), time.perf_counter()

    def after(x):
        nonlocal accepted, began
        if not np.array_equal(x, objective.x):
            objective(x)
        accepted, epoch = objective.x, fit.history.epochs
        trainer.steps, trainer.epochs = trainer.steps + 1, trainer.epochs + 1
        logs = {"loss": objective.loss}
        samples = fit.samples
        if samples.scored:
            rows = objective.evaluate.share * samples.rows
            logs["accuracy"] = objective.evaluate.hits / samples.answers(rows, trainer.net.sizes[-1])
        fit.progress.update(epoch, samples.rows, objective.loss, logs.get("accuracy"))
        state.release()  # as between the epochs of other optimizers
        try:
            logs = fit.measured(logs, began)
            try:
                fit.tell("on_epoch_end", epoch, logs)
            finally:
                fit.history.append(**logs)
            began = time.perf_counter()
            if trainer.stop_training:
                fit.history.stopped = fit.history.stopped or "callback"
                raise _Stop
            if epoch + 1 < fit.epochs:
                fit.tell("on_epoch_begin", epoch + 1, {})
        finally:
            state.acquire()

    limits = {"maxiter": fit.epochs, "maxfun": 100 * fit.epochs, "maxcor": optimizer.history_size}
    limits |= {"gtol": optimizer.tolerance_grad, "ftol": optimizer.tolerance_change}
    fit.tell("on_epoch_begin", 0, {})
    diverged = False
    with state:
        try:
            minimize(objective, accepted, jac=True, method="L-BFGS-B", callback=after, options=limits)
        except FloatingPointError:
            diverged = True
        except _Stop:
            pass
        finally:  # a line search may have been interrupted far out
            trainer.net.params[:] = accepted
    if diverged:
        where = f"step 1 of epoch {fit.history.epochs + 1} of this fit"
        fit.diverged(divergence(trainer, objective.evaluate.session.lost, objective.loss, where))
