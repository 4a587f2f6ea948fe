"""What happens between the epochs of an estimator's fit, as scikit-learn has it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..callbacks import Callback
from ..engine import averages
from ..optimizers import SGD
from . import shared
from .tabular import coslog4


class BetweenEpochs(Callback):
    """One stochastic fit, epoch by epoch: its records, when it stops, how lr changes, the best weights.

    estimator : whose records they are. p : the parameters that hold for this fit. lr : of the solver. scale,
    shift, held_shift : from the Trainer's loss, of the training and of validation_data, to scikit-learn's.
    penalty : of an epoch, for each of squares(). score : of (predictions, targets, weights). stalled : epochs
    in a row without an improvement by tol. rows : samples trained on; held_out : (X, y, weight) or None;
    places : of the rows that a bootstrap drew, or None; drawn : the random state that split held_out off,
    where later rounds of a search are to go on.
    """

    def __init__(
        self,
        estimator: Any,
        trainer: Any,
        p: Any,
        *,
        lr: float,
        scale: float,
        shift: float,
        held_shift: float,
        penalty: float,
        squares: Callable[[], float],
        score: Callable[..., float],
        stalled: int,
        rows: int,
        held_out: Any,
        places: Any = None,
        drawn: Any = None,
    ) -> None:
        self.estimator, self.trainer, self.p, self.first_lr = estimator, trainer, p, lr
        self.scale, self.shift, self.held_shift, self.score = scale, shift, held_shift, score
        self.stalled, self.rows, self.held_out = stalled, rows, held_out
        self.places, self.drawn = places, drawn
        self.converged = False  # or diverged: no epoch follows
        self.lr_unit = lr / p.learning_rate_init if p.optimizer is None else 1.0
        # learning_rate, the schedule, is for solver="sgd" and the user's own optimizer
        self.schedule = p.learning_rate if p.solver == "sgd" or p.optimizer is not None else "constant"
        self.batches = -(-rows // trainer.batch_size)
        self.penalty, self.sum_of_squares = penalty * self.batches, squares
        self.squares = squares() if self.penalty else 0.0
        self.best: Any = averages.snapshot(trainer) if p.early_stopping else None
        estimator.n_iter_ = 0
        if p.preset is not None:
            self.cycle()
        if held_out is not None and estimator.validation_scores_ is None:
            estimator.validation_scores_ = []

    def ahead(self) -> float:
        moves = self.schedule == "invscaling" or self.p.preset is not None  # lr, in each epoch
        return 1 if moves else self.p.n_iter_no_change + 1 - self.stalled

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        estimator, p, loss = self.estimator, self.p, logs["loss"]
        loss = loss * self.scale + self.shift
        if self.penalty:  # its mean over the epoch's steps, as if the norm grew evenly
            before, self.squares = self.squares, self.sum_of_squares()
            share = (self.batches - 1) / (2 * self.batches)
            loss += self.penalty * (before + (self.squares - before) * share)
        estimator.n_iter_ += 1
        estimator.t_ += self.rows
        estimator.loss_ = loss
        estimator.loss_curve_.append(loss)
        if p.verbose:
            print(f"Iteration {estimator.n_iter_}, loss = {loss:.8f}")
        if "val_loss" in logs:
            estimator.validation_loss_curve_.append(logs["val_loss"] * self.scale + self.held_shift)
        if self.held_out is not None:
            self.validate()
        if not p.early_stopping:
            self.count(loss <= estimator.best_loss_ - p.tol)
            estimator.best_loss_ = min(estimator.best_loss_, loss)
        if self.schedule == "invscaling":
            self.set_lr(self.first_lr / (estimator.t_ + 1) ** p.power_t)
        elif p.preset is not None:
            self.cycle()
        if self.stalled > p.n_iter_no_change and self.stops():
            self.converged = self.trainer.stop_training = True

    def count(self, improved: bool) -> None:
        """Epochs in a row without an improvement by tol."""
        self.stalled = 0 if improved else self.stalled + 1

    def validate(self) -> None:
        """Score the held-out part; early stopping keeps the best epoch's weights."""
        estimator, p = self.estimator, self.p
        held_out: Any = self.held_out
        X, y, weight = held_out
        score = self.score(self.trainer.predict(X), y, weight)
        estimator.validation_scores_.append(score)
        if p.verbose:
            print(f"Validation score: {score:f}")
        if not p.early_stopping:
            return
        best = estimator.best_validation_score_
        self.count(score >= best + p.tol)
        if score > best or (p.preset is not None and score == best):  # the preset: the last of equals
            estimator.best_validation_score_ = score
            self.best = averages.snapshot(self.trainer)

    def cycle(self) -> None:
        """The preset's learning rate for the epoch to come."""
        rounds = shared.rounds()
        done = (self.estimator.n_iter_ + 0.5) / (self.p.max_iter if rounds is None else rounds.planned)
        self.set_lr(self.first_lr * max(coslog4(done), 1e-6))

    def stops(self) -> bool:
        """No improvement for too long: stop, or, "adaptive", go on with a fifth of lr."""
        p, optimizer = self.p, self.trainer.optimizer
        what = "Validation score" if p.early_stopping else "Training loss"
        text = f"{what} did not improve more than tol={p.tol:f} for {p.n_iter_no_change} consecutive epochs."
        slower = self.schedule == "adaptive" and optimizer.lr / self.lr_unit > 1e-6
        if slower:
            self.set_lr(optimizer.lr / 5)
            self.stalled = 0
            text += f" Setting learning rate to {optimizer.lr / self.lr_unit:f}"
        else:
            text += " Learning rate too small. Stopping." if self.schedule == "adaptive" else " Stopping."
        if p.verbose:
            print(text)
        return not slower

    def set_lr(self, lr: float) -> None:
        """Change the step length; momentum goes on at the speed that it has, as in scikit-learn."""
        optimizer = self.trainer.optimizer
        if isinstance(optimizer, SGD):
            self.trainer.slots *= optimizer.lr / lr
        optimizer.lr = lr

    def end(self) -> None:
        """Early stopping ends with the weights of its best epoch."""
        if shared.rounds() is not None:  # then it may go on from the last one's
            self.last, self.held_out = averages.snapshot(self.trainer), None
        if self.best is not None:
            averages.restore(self.trainer, self.best)

    def go_on(self, estimator: Any, p: Any, score: Any, squares: Any, held_out: Any) -> None:
        """Be of another estimator, whose fit goes on with this one."""
        self.estimator, self.p, self.held_out = estimator, p, held_out
        self.score, self.sum_of_squares = score, squares
