"""What the estimators of fastbp.sklearn share: scikit-learn's parameters and rules over a Trainer.

Imports scikit-learn and SciPy, so only fastbp.sklearn imports it.
"""

from __future__ import annotations

import copy
import functools
import inspect
import warnings
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import optimize, sparse
from sklearn.base import BaseEstimator, clone, is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import _safe_indexing, check_random_state
from sklearn.utils.validation import (
    _check_feature_names,
    _check_sample_weight,
    _check_y,
    check_consistent_length,
    validate_data,
)
from threadpoolctl import ThreadpoolController

from ..engine import averages, backend, devices
from ..engine.parallel import max_threads
from ..engine.samples import samples
from ..errors import unknown
from ..network.activations import check as check_activation
from ..network.mlp import MLP
from ..optimizers import SGD, Adam
from ..optimizers import optimizer as make_optimizer
from ..training import ensemble, gathering, many
from ..training.objective import Objective
from ..training.trainer import Trainer
from . import parameters, shared, tabular
from .epochs import BetweenEpochs
from .saving import Saving

if TYPE_CHECKING:
    from ..losses.base import LossLike
    from ..types import Array, Floats
    from .losses import ChosenLoss

STOCHASTIC = ("sgd", "adam")


def _views(name: str, arrays: str, doc: str) -> Any:
    """An attribute ``name`` of a fitted estimator: a list of the network's ``arrays``; what is assigned goes
    into these."""

    def get(self):
        if "estimators_" in vars(self):
            raise AttributeError(f"{type(self).__name__} has no {name} of its own: see those of estimators_")
        if "_trainer" not in vars(self):
            raise AttributeError(f"{type(self).__name__} has no {name}: it is not fitted yet")
        return list(getattr(self._trainer.net, arrays))

    def fill(self, values):
        for view, array in zip(get(self), values, strict=True):
            view[...] = array

    return property(get, fill, doc=doc)


class Estimator(Saving, BaseEstimator):
    """Parameters checked, weights drawn, solvers run; subclasses say what targets and scores are."""

    # parameters that both read, and what a fit leaves
    preset: str | tabular.TabularPreprocessor | None
    solver: str
    loss: LossLike
    class_weight: Any
    batch_size: Any
    device: Any
    threads: int | None
    n_jobs: int | None
    classes_: Array
    n_features_in_: int
    n_iter_: int
    estimators_: list[Any]
    n_layers_: int
    n_outputs_: int
    out_activation_: str
    t_: int
    loss_: float
    loss_curve_: list[float]
    best_loss_: float | None
    validation_scores_: list[float] | None
    best_validation_score_: float | None
    validation_loss_curve_: list[float] | None
    _chosen_loss: ChosenLoss

    # --- what subclasses tell

    def _targets(self, X, y, incremental, reset):
        """(X, y) validated; y as Trainer.fit takes it. Sets _chosen_loss, n_outputs_, out_activation_."""
        raise NotImplementedError

    def _score_of(self, outputs, y, sample_weight):
        """The score of predictions against targets as _targets gives them, a float."""
        raise NotImplementedError

    def _constant(self, y, weight):
        """What scikit-learn's loss has beside the Trainer's and no gradient sees."""
        return 0.0

    def _softened(self, y):
        """The targets to train on: y, or, with the preset, smoothed labels."""
        return y

    def _stratify(self, y):
        """Labels by which early stopping splits, or None."""
        return None

    def _sizes(self, inputs):
        return [inputs, *self._hidden(), self._chosen_loss.columns]

    # --- parameters

    def _hidden(self):
        sizes = self._p.hidden_layer_sizes
        sizes = list(sizes) if hasattr(sizes, "__iter__") else [sizes]
        if not all(parameters.is_count(n) for n in sizes):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
        return [int(n) for n in sizes]

    def _names(self):
        """The activations that were asked for, one for all or a list, by fastbp's names."""
        given = self._p.activation
        names = [given] if isinstance(given, str) else list(given)
        return ["sigmoid" if name == "logistic" else check_activation(name) for name in names]

    def _activations(self):
        names = self._names()
        return names * len(self._hidden()) if isinstance(self._p.activation, str) else names

    def _set_parameters(self):
        """Set _p: the parameters that hold for this fit, checked. A preset's stand where the user left
        the default.
        """
        given = holding(self)
        if shared.rounds():
            given["max_iter"] = self.max_iter  # the round's epochs, never a preset's
        self._p = SimpleNamespace(**given)
        if self._p.optimizer is not None and self._p.solver == "lbfgs":
            raise ValueError("optimizer: got one with solver='lbfgs', takes None, or another solver")
        if self._p.solver == "lbfgs":
            self._check_lbfgs()

    def _check_lbfgs(self):
        """No step of L-BFGS drops anything, or sees an average or running statistics."""
        if np.any(self._p.dropout):
            raise ValueError(f"dropout: got {self._p.dropout} with solver='lbfgs', takes 0")
        if self._p.ema is not None:
            raise ValueError(f"ema: got {self._p.ema} with solver='lbfgs', takes None")
        if "batch" in (self._p.norm if isinstance(self._p.norm, (list, tuple)) else [self._p.norm]):
            raise ValueError(f"norm: got {self._p.norm!r} with solver='lbfgs', takes None or 'layer'")

    def _check_solver(self):
        if self.solver not in STOCHASTIC:
            raise AttributeError(
                f"partial_fit is only available for stochastic optimizers. {self.solver} is not stochastic."
            )
        return True

    def _net_dtype(self, X):
        """ "auto": float32 for float32 data, else float64, as scikit-learn computes."""
        if self._p.dtype != "auto":
            return self._p.dtype
        return "float32" if X.dtype == np.float32 else "float64"

    # --- fitted attributes that are views of the network

    coefs_: list[Floats] = _views(
        "coefs_", "weights", "Weight matrices (fan_in, fan_out), writable views of the network's."
    )
    intercepts_: list[Floats] = _views(
        "intercepts_", "biases", "Bias vectors (fan_out,), writable views of the network's."
    )

    # --- data

    def _features(self, X, y="no_validation", reset=True, **options):
        """X (and y) checked as scikit-learn does; any numeric dtype is kept and read in place."""
        if self.preset is None:
            return validate_data(
                self, X, y, reset=reset, accept_sparse=["csr", "csc"], dtype="numeric", **options
            )
        if reset:
            given = isinstance(self.preset, tabular.TabularPreprocessor)
            table = clone(self.preset) if given else tabular.TabularPreprocessor()
            self._table = shared.once(tabular.TabularPreprocessor.fit, table, X)
        _check_feature_names(self, X, reset=reset)
        prepared = shared.once(tabular.TabularPreprocessor.transform, self._table, X)
        self.n_features_in_ = self._table.n_features_in_
        if isinstance(y, str) and y == "no_validation":
            return prepared
        y = _check_y(y, multi_output=True, y_numeric=options.get("y_numeric", False), estimator=self)
        check_consistent_length(prepared, y)
        return prepared, y

    def _weights(self, sample_weight, X, y):
        """Sample weights (N,) float64, or None."""
        if sample_weight is None:
            return None
        return _check_sample_weight(sample_weight, X, dtype=np.float64)

    # --- fitting

    def _fit(self, X, y, sample_weight=None, validation_data=None, incremental=False):
        self._set_parameters()
        self._hidden()
        first = not self._fitted or (not self._p.warm_start and not incremental)
        count = self._p.n_ensemble
        if not first and len(self._trainers()) != count:
            before = len(self._trainers())
            raise ValueError(f"n_ensemble: got {count} to go on with the fit of {before}, takes {before}")
        X, y = self._targets(X, y, incremental, first)
        weight = self._weights(sample_weight, X, y)
        random = check_random_state(self._p.random_state)
        if validation_data is not None:
            validation_data = self._held_out(validation_data)
        fit = self._fit_one if count == 1 else self._fit_members
        fit(X, y, weight, validation_data, incremental, random, first)
        return self

    def _fit_members(self, X, y, weight, validation_data, incremental, random, first):
        """Fit an ensemble's networks in one compiled call. Their seeds are those of BaggingClassifier."""
        most, members = np.iinfo(np.int32).max, self.estimators_ if not first else []
        if first:
            for seed in random.randint(most, size=self._p.n_ensemble):
                members.append(self._member(check_random_state(int(seed)).randint(most)))
        together, tasks, said = gathering.Gathering(_train), [], {}
        for member in members:
            vars(member).update(self._for_members())
            own = check_random_state(member.random_state)
            told = X, y, weight, validation_data, incremental, own, first
            tasks.append(together.add(functools.partial(member._fit_member, *told)))
        for task in tasks:
            together.run_until(task, lambda _: None)
            if task.error is not None:
                together.stop()
                raise task.error
            said |= task.result
        for text, kind in said.items():
            self._warn(text, 4, kind)
        for name in _OF_ONE:
            vars(self).pop(name, None)
        self.estimators_ = members
        self.n_iter_, self.n_layers_ = max(m.n_iter_ for m in members), members[0].n_layers_

    def _member(self, seed):
        """One of an ensemble's networks, not yet fitted."""
        member = clone(self).set_params(n_ensemble=1, random_state=int(seed))
        vars(member).update(self._for_members())
        return member

    def _for_members(self):
        """{attribute: value} that an ensemble's networks have in common, parameters too."""
        own = {"n_ensemble", "random_state", "callbacks", "estimators_", "_p", *_OF_ONE}
        return {name: value for name, value in vars(self).items() if name not in own}

    def _fit_member(self, *told):
        """_fit_one of an ensemble's network. Returns {text: kind} of the warnings."""
        self._set_parameters()
        self._said: dict[str, Any] = {}
        try:
            self._fit_one(*told)
        finally:
            said = vars(self).pop("_said")
        return said

    def _fit_one(self, X, y, weight, validation_data, incremental, random, first):
        """Fit the one network of X and what stands for y."""
        rounds, made_from = shared.rounds(), None
        if first:
            vars(self).pop("estimators_", None)
        if rounds is not None and first and not incremental and validation_data is None:
            made_from = self._made_from(X, y, weight)
        if rounds is not None and made_from in rounds.before:
            rounds.stopped[made_from] = self._go_on(rounds.before.pop(made_from), X, y, weight)
            self._check_weights()
            return
        if first:
            self._begin(X, random)
        elif self._trainer.net.sizes != self._sizes(X.shape[1]):
            raise ValueError(
                f"warm_start: the network was {self._trainer.net.sizes}, takes the same sizes "
                f"(now {self._sizes(X.shape[1])})"
            )
        elif self._made_with != self._of_network():
            raise ValueError(
                f"warm_start: the network was made with {self._made_with}, takes the same (now "
                f"{self._of_network()})"
            )
        if self._p.solver == "lbfgs":
            if self._p.bootstrap:
                rows = random.randint(0, X.shape[0], X.shape[0])
                X, y, weight = (_part(array, rows) for array in (X, y, weight))
            self._open(X, random, True, weight)
            self._fit_lbfgs(X, y, weight)
        else:
            between = self._fit_stochastic(X, y, weight, validation_data, incremental, random)
            if rounds is not None and made_from is not None:
                rounds.stopped[made_from] = between
        self._check_weights()

    def _check_weights(self):
        """Raises ValueError where a weight is not finite."""
        if not np.isfinite(self._trainer.net.params).all():
            raise ValueError(NOT_FINITE)

    def _begin(self, X, random):
        """The first fit: a network with scikit-learn's initial weights, all records empty."""
        self.n_iter_ = self.t_ = 0
        self.validation_loss_curve_ = None
        sizes = self._sizes(X.shape[1])
        self.n_layers_ = len(sizes)
        net = MLP(
            sizes, self._activations(), dropout=self._p.dropout, norm=self._p.norm, residual=self._p.residual,
            embeddings=self._embeddings(), seed=0, dtype=self._net_dtype(X),
        )  # fmt: skip
        self._made_with = self._of_network()
        self._draw(net, random)
        backend.ready(devices.device(self._p.device), net.dtype, tell=bool(self._p.verbose))
        self._trainer = Trainer(net, self._chosen_loss.loss)
        if self._p.solver in STOCHASTIC:
            self.loss_curve_, self._no_improvement_count = [], 0
            stops = self._p.early_stopping
            self.validation_scores_ = [] if stops else None
            self.best_validation_score_ = -np.inf if stops else None
            self.best_loss_ = None if stops else np.inf

    def _draw(self, net, random):
        """Uniform in +-sqrt(6 / (fan_in + fan_out)), for logistic sqrt(2 / ...), biases too: the numbers
        that scikit-learn draws from the same random_state (Glorot and Bengio, AISTATS 2010).
        """
        factor = 2.0 if self._p.activation == "logistic" else 6.0
        for w, b in zip(net.weights, net.biases, strict=True):
            bound = np.sqrt(factor / sum(w.shape))
            w[:] = random.uniform(-bound, bound, w.shape)
            b[:] = random.uniform(-bound, bound, b.shape)
        for table in net.embeddings:
            table[:] = random.standard_normal(table.shape)

    def _of_network(self):
        """{parameter: value} of what shapes the network beside its sizes."""
        return {name: getattr(self._p, name) for name in ("norm", "residual", "embeddings")}

    def _embeddings(self):
        """``embeddings``, by places of columns: names are looked up."""
        if not self._p.embeddings:
            return None
        if self.preset is not None:
            raise ValueError(f"embeddings: got {self._p.embeddings} with a preset, takes None there")
        names = list(getattr(self, "feature_names_in_", []))
        for column in self._p.embeddings:
            if isinstance(column, str) and column not in names:
                raise unknown("embeddings", column, names)
        place = {name: i for i, name in enumerate(names)}
        return {place.get(column, column): pair for column, pair in self._p.embeddings.items()}

    def _scales(self):
        """(k, c): scikit-learn's gradient is k times that of the Trainer's loss, its loss c times.

        scikit-learn sums log losses over outputs; of squared errors it takes the gradient of half the
        sum and reports half the mean.
        """
        n, name = self.n_outputs_, self._chosen_loss.loss.name if self._chosen_loss.theirs else None
        return {"bce_with_logits": (n, n), "poisson_nll": (n, n), "mse": (n / 2, 0.5)}.get(name, (1, 1))

    def _optimizer(self, decay):
        """The solver; decay: the L2 penalty per step, in units of scikit-learn's gradient.

        The Trainer's gradient is 1/k of scikit-learn's: lr (SGD) or eps (Adam) and decay make up for it.
        """
        if self._p.optimizer is not None:
            return copy.copy(make_optimizer(self._p.optimizer))
        k, _ = self._scales()
        if self._p.solver == "sgd":
            nesterov = bool(self._p.nesterovs_momentum and self._p.momentum > 0)
            return SGD(self._p.learning_rate_init * k, self._p.momentum, 0.0, decay / k, nesterov)
        betas = (self._p.beta_1, self._p.beta_2)
        return Adam(self._p.learning_rate_init, betas, self._p.epsilon / k, decay / k)

    def _open(self, X, random, anew, weight=None):
        """Set the trainer up for this fit; anew: with a fresh optimizer, as fit has it."""
        rows = X.shape[0]
        batch = min(200, rows) if self._p.batch_size == "auto" else self._p.batch_size
        if batch > rows and self.batch_size != "auto":
            self._warn(f"batch_size: got {batch}, clipped to {rows} samples", 5, UserWarning)
        batch = min(batch, rows)
        mean = 1.0 if weight is None else weight.mean()
        optimizer = self._optimizer(self._p.alpha / (batch * mean))
        self._first_lr = optimizer.lr
        if anew:
            seed = int(random.randint(np.iinfo(np.int32).max))
            own = self._p.optimizer is None  # then alpha is its weight_decay, which spares the biases
            self._trainer = Trainer(
                self._trainer.net, self._chosen_loss.loss, optimizer, batch,
                device=self._p.device, threads=self._threads(), seed=seed, decay_bias=not own,
                ema=self._p.ema,
            )  # fmt: skip
        else:
            optimizer.lr = self._trainer.optimizer.lr  # what the schedule has made of it
            self._trainer.optimizer, self._trainer.batch_size = optimizer, batch
            self._trainer.ema = self._p.ema
        self._penalty = 0.5 * self._p.alpha / (rows * mean) if self._p.optimizer is None else 0.0

    def _threads(self):
        """threads, or what n_jobs says, joblib's count: from the end where negative; at most all."""
        if self.n_jobs is None:
            return self.threads
        if self.threads is not None:
            raise ValueError(f"n_jobs: got {self.n_jobs} beside threads={self.threads}, takes one of them")
        most = max_threads()
        return max(1, most + 1 + self.n_jobs) if self.n_jobs < 0 else min(self.n_jobs, most)

    def _decayed(self):
        """Where in the parameters what the penalty is on lies: weights and embeddings. Padding is 0."""
        net = self._trainer.net
        for i, _, start, ld in net.layers:
            yield slice(start, start + i * ld)
        for (_, categories, _), (start, ld) in zip(net.embedded, net.tables, strict=True):
            yield slice(start, start + categories * ld)

    def _squares(self):
        """Sum of all squared weights, biases apart."""
        rows = (self._trainer.net.params[here] for here in self._decayed())
        return float(sum(np.dot(row, row) for row in rows))

    def _made_from(self, X, y, weight):
        """What tells this fit from others, whatever its epochs; None for those that no later round goes on
        with."""
        if self._p.solver not in STOCHASTIC or self._p.callbacks:
            return None
        given = {name: getattr(self, name) for name in parameters.defaults(type(self)) if name != "max_iter"}
        return shared.digest(type(self).__name__, given, X, y, weight)

    def _go_on(self, between, X, y, weight):
        """Be the estimator of a fit of fewer epochs, and train on up to max_iter. Returns ``between``."""
        given = {*parameters.defaults(type(self)), "_p"}
        vars(self).update({k: v for k, v in vars(between.estimator).items() if k not in given})
        epochs, held_out = self._p.max_iter - self.n_iter_, None
        if self._p.early_stopping and not between.converged:
            X, y, weight, held_out = self._split(X, y, weight, copy.deepcopy(between.drawn))
        between.go_on(self, self._p, self._score_of, self._squares, held_out)
        if epochs > 0 and not between.converged:
            averages.restore(self._trainer, between.last)
            self._train(between, X, y, weight, None, epochs)
        return between

    def _fit_stochastic(self, X, y, weight, held_out, incremental, random):
        if self._p.early_stopping and incremental:
            raise ValueError("partial_fit does not support early_stopping=True")
        validation_data = held_out
        if validation_data is not None and self.validation_loss_curve_ is None:
            self.validation_loss_curve_ = []
        drawn = copy.deepcopy(random) if shared.rounds() else None
        if self._p.early_stopping and held_out is None:
            X, y, weight, held_out = self._split(X, y, weight, random)
        places = random.randint(0, X.shape[0], X.shape[0]) if self._p.bootstrap else None
        self._open(X, random, not (incremental and self._trainer.steps), _part(weight, places))
        between = BetweenEpochs(
            self, self._trainer, self._p, lr=self._first_lr, scale=self._scales()[1],
            shift=self._constant(_part(y, places), _part(weight, places)), penalty=self._penalty,
            squares=self._squares,
            held_shift=0.0 if validation_data is None else self._constant(*validation_data[1:]),
            score=self._score_of, stalled=self._no_improvement_count, rows=X.shape[0],
            held_out=held_out, places=places, drawn=drawn,
        )  # fmt: skip
        self._train(
            between, X, y, weight, validation_data, 1 if incremental else self._p.max_iter, incremental
        )
        return between

    def _train(self, between, X, y, weight, validation_data, epochs, incremental=False):
        """``epochs`` more, and what is to be done at their end."""
        data = X, self._softened(y)
        if between.places is not None:  # X is read in place
            given = samples(self._trainer, *data, weight)
            data, weight = (given._replace(places=between.places.astype(np.int32)), None), None
        try:
            history = self._trainer.fit(
                *data, epochs, validation_data=validation_data, shuffle=self._p.shuffle, sample_weight=weight,
                callbacks=[between, *(self._p.callbacks or ())], verbose=0,
            )  # fmt: skip
        except FloatingPointError as error:
            if not self._p.early_stopping or self.best_validation_score_ == -np.inf:
                raise ValueError(NOT_FINITE) from error
            between.converged = True
            self.validation_scores_.append(float("nan"))
            self._warn(
                f"Stochastic Optimizer: the fit diverged in epoch {self.n_iter_ + 1}; the weights are those "
                f"of the best epoch before, whose validation score is {self.best_validation_score_:.4g}. "
                "Try a lower learning_rate_init or standardised inputs.",
                6,
            )
        else:
            if history.stopped == "Ctrl-C" and _in_a_loop():
                raise KeyboardInterrupt
            if history.epochs == epochs and not (between.converged or incremental or self._p.preset):
                self._warn(
                    f"Stochastic Optimizer: Maximum iterations ({epochs}) reached and the "
                    "optimization hasn't converged yet.",
                    6,
                )
        finally:
            self._no_improvement_count = between.stalled
        between.end()

    def _split(self, X, y, weight, random):
        """(X, y, weight, (X, y, weight) held out): scikit-learn's split for early stopping."""
        labels, rows = self._stratify(y), np.arange(X.shape[0])
        X = X.tocsr() if sparse.issparse(X) else X
        train, test = train_test_split(
            rows, random_state=random, test_size=self._p.validation_fraction, stratify=labels
        )
        if len(test) < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of your dataset."
            )
        held_out = (X[test], y[test], _part(weight, test))
        return X[train], y[train], _part(weight, train), held_out

    def _held_out(self, pair):
        try:
            X, y = pair
        except (TypeError, ValueError):
            raise ValueError(f"validation_data: got {type(pair).__name__}, takes (X, y)") from None
        X, y = self._targets(X, y, True, False)
        return X, y, None

    def _fit_lbfgs(self, X, y, weight):
        """Minimise the loss of all data by SciPy's L-BFGS-B, on the parameter arena as it lies in memory."""
        k, scale = self._scales()
        net = self._trainer.net
        total = X.shape[0] if weight is None else weight.sum()
        evaluate = Objective(self._trainer, samples(self._trainer, X, y, weight))
        shift = self._constant(y, weight)

        def objective(flat):
            net.params[:] = flat
            loss, gradient = evaluate()
            gradient *= k
            for here in self._decayed():
                gradient[here] += (self._p.alpha / total) * flat[here]
            return loss * scale + shift + 0.5 * self._p.alpha / total * self._squares(), gradient

        # BLAS's threads gain nothing on so short vectors, and where others want a core they wait for it
        with _blas().limit(limits=1, user_api="blas"):
            found = optimize.minimize(
                objective,
                net.params.astype(np.float64),
                method="L-BFGS-B",
                jac=True,
                options={"maxfun": self._p.max_fun, "maxiter": self._p.max_iter, "gtol": self._p.tol},
            )
        net.params[:] = found.x
        self.loss_, self.n_iter_ = float(found.fun), min(found.nit, self._p.max_iter)
        if found.status:
            self._warn(
                f"lbfgs failed to converge after {found.nit} iteration(s) (status={found.status}): "
                f"{found.message}. Increase max_iter or scale the data.",
                5,
            )

    def _warn(self, text, depth, kind=ConvergenceWarning):
        """Warn at the line so many calls above, which called fit; of an ensemble's networks it does, once."""
        if "_said" in vars(self):
            self._said[text] = kind
        else:
            warnings.warn(text, kind, stacklevel=depth + 1)

    # --- using

    def _own(self, outputs):
        """What a network predicts, from its outputs after the link."""
        return outputs

    def _each(self, X):
        """What each network of an ensemble predicts, for validated X."""
        return map(self._own, ensemble.each(self._trainers(), "predict", X))

    def _outputs(self, X):
        """(N, outputs) that are predicted, for validated X: those of the network, or an ensemble's mean."""
        if "estimators_" in vars(self):
            return ensemble.mixture(self._each(X), self._chosen_loss.link, False)
        return self._own(self._trainer.predict(X))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = self.preset is None
        tags.input_tags.allow_nan = tags.input_tags.string = self.preset is not None
        return tags


def _part(array, rows):
    """Some rows of an array; None: of none, or all."""
    return array if array is None or rows is None else _safe_indexing(array, rows)


def _train(fits):
    """Train an ensemble's networks: with those of others, where these come together. After Ctrl-C they keep
    what they have, as one network does."""
    task = gathering.present()
    if task is not None:
        task.wait_for_all(fits)
        return
    try:
        many.train(fits)
    except KeyboardInterrupt:
        if _in_a_loop():
            raise


# What a fit leaves of one network; of an ensemble each of estimators_ has its own.
_OF_ONE = (
    "_trainer", "_made_with", "_first_lr", "_penalty", "_no_improvement_count", "n_iter_", "n_layers_", "t_",
    "loss_", "loss_curve_", "best_loss_", "validation_scores_", "best_validation_score_",
    "validation_loss_curve_",
)  # fmt: skip

_ONE_FIT = ("sklearn.base", "sklearn.pipeline", "sklearn.compose._target")


def _in_a_loop():
    """Whether scikit-learn or joblib calls fit, as they do many times: a search, folds, an ensemble. Who
    presses Ctrl-C there wants to leave it; otherwise the model keeps what it has, as scikit-learn's does."""
    frame = inspect.currentframe()
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name.startswith(("sklearn.", "joblib.")) and name not in _ONE_FIT:
            return True
        frame = frame.f_back
    return False


@functools.cache
def _blas():
    return ThreadpoolController()


def holding(estimator: Any) -> dict[str, Any]:
    """{parameter: value} as they hold for an estimator, checked: a preset's where the default was left."""
    kind: Any = type(estimator)
    defaults = parameters.defaults(kind)
    given = {name: getattr(estimator, name) for name in defaults}
    parameters.check(given)
    given = {"embeddings": None, "n_ensemble": 1, "bootstrap": False} | given
    if given.setdefault("preset", None) is not None:
        given = tabular.preset(given, defaults, is_classifier(estimator))
    return given


NOT_FINITE = (
    "Solver produced non-finite parameter weights. The input data may contain large values and need to "
    "be preprocessed."
)
