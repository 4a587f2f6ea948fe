"""What happens between the epochs of an estimator's fit, as scikit-learn has it."""

from __future__ import annotations

from typing import Any

from ..callbacks import Callback
from ..optimizers import SGD
from .tabular import coslog4


class Course(Callback):
    """One stochastic fit, epoch by epoch: its records, when it stops, how lr changes, the best weights.

    seen : samples that t_ counts an epoch; rows : samples trained on; held_out : (X, y, weight) or None.
    """

    def __init__(self, owner: Any, seen: int, rows: int, held_out: Any) -> None:
        self.owner, self.trainer, self.seen, self.held_out = owner, owner._trainer, seen, held_out
        self.converged = False
        self.p = p = owner._p
        self.first_lr = owner._first_lr
        self.lr_unit = self.first_lr / p.learning_rate_init if p.optimizer is None else 1.0
        # learning_rate, the schedule, is for solver="sgd" and the user's own optimizer
        self.schedule = p.learning_rate if p.solver == "sgd" or p.optimizer is not None else "constant"
        self.batches = -(-rows // self.trainer.batch_size)
        self.scale = owner._scales()[1]
        self.penalty = owner._penalty * self.batches
        self.squares = owner._squares() if self.penalty else 0.0
        self.best: Any = self.trainer.net.params.copy() if p.early_stopping else None
        owner.n_iter_ = 0
        if p.preset is not None:
            self.cycle()
        if held_out is not None and owner.validation_scores_ is None:
            owner.validation_scores_ = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        owner, p, loss = self.owner, self.p, logs["loss"]
        loss = loss * self.scale + owner._shift
        if self.penalty:  # its mean over the epoch's steps, as if the norm grew evenly
            before, self.squares = self.squares, owner._squares()
            share = (self.batches - 1) / (2 * self.batches)
            loss += self.penalty * (before + (self.squares - before) * share)
        owner.n_iter_ += 1
        owner.t_ += self.seen
        owner.loss_ = loss
        owner.loss_curve_.append(loss)
        if p.verbose:
            print(f"Iteration {owner.n_iter_}, loss = {loss:.8f}")
        if self.held_out is not None:
            self.validate()
        if not p.early_stopping:
            self.count(loss <= owner.best_loss_ - p.tol)
            owner.best_loss_ = min(owner.best_loss_, loss)
        if self.schedule == "invscaling":
            self.set_lr(self.first_lr / (owner.t_ + 1) ** p.power_t)
        elif p.preset is not None:
            self.cycle()
        if owner._no_improvement_count > p.n_iter_no_change and self.stops():
            self.converged = self.trainer.stop_training = True

    def count(self, improved: bool) -> None:
        """Epochs in a row without an improvement by tol."""
        self.owner._no_improvement_count = 0 if improved else self.owner._no_improvement_count + 1

    def validate(self) -> None:
        """Score the held-out part; early stopping keeps the best epoch's weights."""
        owner, p = self.owner, self.p
        X, y, weight = self.held_out
        score = owner._score_of(self.trainer.predict(X), y, weight)
        owner.validation_scores_.append(score)
        if p.verbose:
            print(f"Validation score: {score:f}")
        if not p.early_stopping:
            return
        best = owner.best_validation_score_
        self.count(score >= best + p.tol)
        if score > best or (p.preset is not None and score == best):  # the preset: the last of equals
            owner.best_validation_score_ = score
            self.best[:] = self.trainer.net.params

    def cycle(self) -> None:
        """The preset's learning rate for the epoch to come."""
        done = (self.owner.n_iter_ + 0.5) / self.p.max_iter
        self.set_lr(self.first_lr * max(coslog4(done), 1e-6))

    def stops(self) -> bool:
        """No improvement for too long: stop, or, "adaptive", go on with a fifth of lr."""
        p, optimizer = self.p, self.trainer.optimizer
        what = "Validation score" if p.early_stopping else "Training loss"
        text = f"{what} did not improve more than tol={p.tol:f} for {p.n_iter_no_change} consecutive epochs."
        slower = self.schedule == "adaptive" and optimizer.lr / self.lr_unit > 1e-6
        if slower:
            self.set_lr(optimizer.lr / 5)
            self.owner._no_improvement_count = 0
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

    def restore(self) -> None:
        """Early stopping ends with the weights of its best epoch."""
        if self.best is not None:
            self.trainer.net.params[:] = self.best
