"""MLPClassifier and MLPRegressor: scikit-learn's own, by name, parameters and attributes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from scipy import sparse, special
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils import column_or_1d, compute_class_weight, compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import (
    _check_partial_fit_first_call,
    check_classification_targets,
    type_of_target,
    unique_labels,
)
from sklearn.utils.validation import check_is_fitted

from ..errors import flag
from ..training import ensemble
from . import tabular
from .base import Estimator
from .losses import for_classes, for_numbers, has_probabilities, rows_of_classes
from .parameters import store

if TYPE_CHECKING:
    from typing import Literal

    from ..callbacks import Callback
    from ..losses.base import LossLike
    from ..optimizers import OptimizerLike
    from ..types import Activation, Array, Device, Features, Norm, SampleWeight, Targets

_PARAMETERS = """
    Parameters
    ----------
    Those of scikit-learn's {name}, in its order, with its defaults and meaning; activation also takes
    every name that fastbp.MLP takes, and one name per hidden layer. Then, by keyword:

    dropout : float, or one per hidden layer
        As fastbp.MLP has it; with solver="lbfgs" 0.
    norm : None, "layer" or "batch", or one per hidden layer
    residual : bool, or one per hidden layer
        As fastbp.MLP has them; with solver="lbfgs" no batch norm.
    embeddings : dict or None
        Of each column to be embedded (categories, width), as fastbp.MLP has it; a column by its place, or,
        of a frame, its name. It holds whole numbers from 0 to categories - 1.
    ema : float or None
        Predict, score and export by a moving average of the weights, as fastbp.Trainer keeps it; coefs_ and
        intercepts_ are the weights themselves. With solver="lbfgs" None.
    optimizer : Optimizer, str or None
        One of fastbp's optimizers or its name, in place of solver, learning_rate_init, momentum, beta_1,
        beta_2, epsilon and alpha. learning_rate (the schedule), tol and the rest still hold.
    callbacks : list of fastbp.callbacks.Callback, or None
        Called between epochs by Trainer.fit.
    preset : "tabular", a TabularPreprocessor or None
        Defaults for tables, in the place of those left as they are, and a preparation of X that takes
        frames with text, dates, categories and missing values (TabularPreprocessor). Keeps the best
        epoch's weights.
    n_ensemble : int
        So many networks, which differ by their seeds, drawn from random_state as BaggingClassifier draws
        them: predictions are means, of probabilities those of classifiers. They are trained in one compiled
        call (by solver="lbfgs" one after another), X is prepared once. estimators_ has them, each an
        estimator with attributes of its own, such as coefs_, loss_curve_ and the random_state that gives it
        alone; n_iter_ is the largest of theirs. warm_start and partial_fit go on with all. One that diverges
        ends the fit with its error.
    bootstrap : bool
        Train on as many rows as there are, drawn with replacement (of an ensemble each network on its own);
        early stopping's part is held out before. For networks seeds alone most often do better
        (Lakshminarayanan et al. 2017).
    dtype : "auto", "float32" or "float64"
        Of the network. "auto": float32 for float32 data, else float64, as scikit-learn. "float32" trains
        1.1 to 1.7 times as fast as float64.
    device : "auto", "cpu" or "cuda"
    threads : int or None
        As fastbp.Trainer has them; the result has the same bits for any number of threads.
    n_jobs : int or None
        threads by scikit-learn's name: -1 for all, -2 for all but one; more than there are count as all.
"""


class MLPClassifier(ClassifierMixin, Estimator):
    __doc__ = (
        """A multi-layer perceptron that classifies, trained by fastbp: scikit-learn's, faster.

    Binary and multi-label targets train sigmoid outputs, several classes softmax.
"""
        + _PARAMETERS.format(name="MLPClassifier")
        + """    class_weight : dict, "balanced" or None
        Weights of classes, multiplied into the sample weights, as elsewhere in scikit-learn.
    loss : "log_loss", or "focal", "hinge", or another of classes of fb.losses, or of fb.loss
        A loss that treats every output alone takes several classes as one against the rest. With hinge
        there are no probabilities, but a decision_function.

    Attributes
    ----------
    classes_, n_features_in_, feature_names_in_, n_iter_, n_layers_, n_outputs_, out_activation_, t_, loss_,
    loss_curve_, best_loss_, validation_scores_, best_validation_score_ : as scikit-learn's.
    validation_loss_curve_ : the loss of fit's validation_data after each epoch, or None; without penalty.
    estimators_ : list of MLPClassifier, with n_ensemble above 1; what is one network's is theirs alone.
    coefs_, intercepts_ : lists of writable views of the network's weights (fan_in, fan_out) and biases.

    Raises ValueError or TypeError naming the argument; ValueError if the weights overflow. Warns
    ConvergenceWarning when max_iter ends it, and where the weights overflow under early stopping, which
    keeps those of the best epoch before.

    >>> from fastbp.sklearn import MLPClassifier
    >>> X, y = np.eye(4), ["ace", "ace", "king", "queen"]
    >>> model = MLPClassifier(solver="lbfgs", random_state=0).fit(X, y)
    >>> list(map(str, model.predict(X)))
    ['ace', 'ace', 'king', 'queen']
    """
    )

    _left = {"classes_": np.ndarray, "_multi": bool, "_sparse_labels": bool}

    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] = (100,),
        activation: Activation | Sequence[Activation] = "relu",
        *,
        solver: Literal["adam", "sgd", "lbfgs"] = "adam",
        alpha: float = 0.0001,
        batch_size: int | Literal["auto"] = "auto",
        learning_rate: Literal["constant", "invscaling", "adaptive"] = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: int | np.random.RandomState | None = None,
        tol: float = 1e-4,
        verbose: bool | int = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        loss: LossLike = "log_loss",
        class_weight: dict[Any, float] | Literal["balanced"] | None = None,
        dropout: float | Sequence[float] = 0.0,
        norm: Norm | Sequence[Norm | None] | None = None,
        residual: bool | Sequence[bool] = False,
        embeddings: Mapping[int | str, Sequence[int]] | None = None,
        ema: float | None = None,
        optimizer: OptimizerLike | None = None,
        callbacks: Iterable[Callback] | None = None,
        preset: Literal["tabular"] | tabular.TabularPreprocessor | None = None,
        n_ensemble: int = 1,
        bootstrap: bool = False,
        dtype: Literal["auto", "float32", "float64"] = "auto",
        device: Device = "auto",
        threads: int | None = None,
        n_jobs: int | None = None,
    ) -> None:
        store(locals())

    def fit(
        self,
        X: Features,
        y: Targets,
        sample_weight: SampleWeight = None,
        *,
        validation_data: tuple[Features, Targets] | None = None,
    ) -> MLPClassifier:
        """Train on X (N, features), array, frame or sparse, and labels y (N,) or indicators (N, labels).

        sample_weight : (N,) weights >= 0. validation_data : (X, y) scored after each epoch into
        validation_scores_ and validation_loss_curve_; early_stopping then watches it instead of a part
        split off. Returns self. Sparse X is read in place, row by row.
        """
        return self._fit(X, y, sample_weight, validation_data)

    @available_if(lambda self: self._check_solver())
    def partial_fit(
        self,
        X: Features,
        y: Targets,
        sample_weight: SampleWeight = None,
        classes: Sequence[Any] | Array | None = None,
    ) -> MLPClassifier:
        """One epoch over X, y; classes : all labels there will be, at the first call. Returns self."""
        if _check_partial_fit_first_call(self, classes) and type_of_target(y).startswith("multilabel"):
            del self.classes_  # the indicator's width says what they are
        return self._fit(X, y, sample_weight, incremental=True)

    def _targets(self, X, y, incremental, reset):
        X, y = self._features(X, y, reset, multi_output=True)
        kind = type_of_target(y, input_name="y")
        check_classification_targets(y)
        if kind == "multiclass-multioutput":
            raise ValueError("y: got several columns of classes, takes one column or 0 / 1 indicators")
        multi = kind == "multilabel-indicator"
        if not multi:
            y = column_or_1d(y, warn=True)
        found = unique_labels(y)
        if not hasattr(self, "classes_") or (not self._p.warm_start and not incremental):
            self.classes_ = found
        elif self._p.warm_start and not incremental and set(found) != set(self.classes_):
            raise ValueError(
                "warm_start can only be used where `y` has the same classes as in the previous call to "
                f"fit. Previously got {self.classes_}, `y` has {found}"
            )
        elif len(np.setdiff1d(found, self.classes_, assume_unique=True)):
            raise ValueError(
                "`y` has classes not in `self.classes_`. "
                f"`self.classes_` has {self.classes_}. 'y' has {found}."
            )
        if reset:
            self._multi, self._sparse_labels = multi, sparse.issparse(y)
        labels = y.shape[1] if multi else len(self.classes_)
        self._chosen_loss = for_classes(self.loss, labels, multi)
        self.n_outputs_, self.out_activation_ = self._chosen_loss.columns, self._chosen_loss.out_activation
        if multi:
            return X, (y.toarray() if sparse.issparse(y) else y).astype(np.uint8)
        places = np.searchsorted(self.classes_, y)
        if self._chosen_loss.one_hot:
            return X, rows_of_classes(places, self.n_outputs_)
        return X, places.astype(np.uint8).reshape(-1, 1) if self.n_outputs_ == 1 else places.astype(np.int32)

    def _places(self, y):
        """Places of the classes (N,), from what _targets returns."""
        return y.argmax(axis=1) if self._chosen_loss.one_hot else y.ravel()

    def _weights(self, sample_weight, X, y):
        weight = super()._weights(sample_weight, X, y)
        if self.class_weight is None:
            return weight
        if self._multi:
            by_class = compute_sample_weight(self.class_weight, y)
        else:
            places = self._places(y)
            kept = places if weight is None else places[weight > 0]  # 0: as if it were not there
            present = np.unique(kept)
            of_class = np.zeros(len(self.classes_))
            of_class[present] = compute_class_weight(
                self.class_weight,
                classes=self.classes_[present],
                y=self.classes_[kept],
                sample_weight=weight if weight is None else weight[weight > 0],
            )
            by_class = of_class[places]
        return by_class if weight is None else weight * by_class

    def _softened(self, y):
        if self._p.preset is None or not self._chosen_loss.theirs:
            return y
        share, outputs = tabular.LABEL_SMOOTHING, self.n_outputs_
        if self._chosen_loss.loss.name == "cross_entropy":
            return (1 - share) * np.eye(outputs)[y] + share / outputs
        return (1 - share) * y + share / 2

    def _stratify(self, y):
        if self._multi:
            return None
        y = self._places(y)
        counts = np.bincount(y)
        held_out = self._p.validation_fraction * len(y)
        if len(self.classes_) > 2 and (counts[counts > 0].min() < 2 or held_out < len(self.classes_)):
            return None  # too few to give each part some of every class
        return y

    def _labels(self, outputs):
        """Codes of classes (N,), or indicators (N, labels), from probabilities."""
        yes = outputs > self._chosen_loss.half
        if self._multi:
            return yes.astype(int)
        if self.n_outputs_ == 1:
            return (yes[:, 0] & (len(self.classes_) > 1)).astype(np.intp)
        return outputs.argmax(axis=1)

    def _own(self, outputs):
        if self._chosen_loss.one_hot and self._chosen_loss.link == "sigmoid":  # one against the rest
            outputs /= np.maximum(outputs.sum(axis=1, keepdims=True), np.finfo(outputs.dtype).tiny)
        return outputs

    def _score_of(self, outputs, y, sample_weight):
        if not np.isfinite(outputs).all():
            return float("nan")
        right = self._labels(outputs) == (y if self._multi else self._places(y))
        right = right.all(axis=1) if self._multi else right
        return float(np.average(right, weights=sample_weight))

    def predict(self, X: Features) -> Array:
        """Labels (N,), or indicators (N, labels), of X (N, features)."""
        check_is_fitted(self)
        labels = self._labels(self._outputs(self._features(X, reset=False)))
        if self._multi and self._sparse_labels:  # typed as what it is for all others
            return sparse.csr_array(labels)  # type: ignore[return-value]
        if self._multi:
            return labels
        return self.classes_[labels]

    @available_if(lambda self: has_probabilities(self.loss))
    def predict_proba(self, X: Features) -> Array:
        """Probabilities (N, classes), columns in the order of classes_."""
        check_is_fitted(self)
        outputs = self._outputs(self._features(X, reset=False))
        return np.hstack([1 - outputs, outputs]) if self.n_outputs_ == 1 else outputs

    @available_if(lambda self: has_probabilities(self.loss))
    def disagreement(self, X: Features) -> Array:
        """How far the probabilities of an ensemble's networks are apart, in nats: (N,), of multi-label
        targets (N, labels): ``fb.Ensemble.disagreement``. Raises ValueError for one network.
        """
        check_is_fitted(self)
        if "estimators_" not in vars(self):
            raise ValueError("disagreement: got one network, takes n_ensemble of 2 or more")
        link = self._chosen_loss.link
        link = "softmax" if self._chosen_loss.one_hot else link  # probabilities of one answer
        return ensemble.divergence(self._each(self._features(X, reset=False)), link)

    @available_if(lambda self: not has_probabilities(self.loss))
    def decision_function(self, X: Features) -> Array:
        """Outputs of a loss without probabilities, such as hinge: (N,), above 0 for the second class, or
        (N, classes), the largest for the one that predict names; (N, labels) of multi-label targets."""
        check_is_fitted(self)
        outputs = self._outputs(self._features(X, reset=False))
        return outputs[:, 0] if self.n_outputs_ == 1 else outputs

    @available_if(lambda self: has_probabilities(self.loss))
    def predict_log_proba(self, X: Features) -> Array:
        """log of predict_proba."""
        probabilities = self.predict_proba(X)
        return np.log(probabilities, out=probabilities)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


class MLPRegressor(RegressorMixin, Estimator):
    __doc__ = (
        """A multi-layer perceptron that predicts numbers, trained by fastbp: scikit-learn's, faster.
"""
        + _PARAMETERS.format(name="MLPRegressor")
        + """
    loss is "squared_error" or "poisson" (y >= 0, exponential output), or one of numbers of fb.losses or its
    name, such as "huber" or fb.losses.Quantile(0.9), or of fb.loss. With "gaussian_nll" predict also gives
    standard deviations.

    Attributes: as MLPClassifier's, classes_ apart.

    >>> from fastbp.sklearn import MLPRegressor
    >>> X = np.linspace(-1, 1, 50).reshape(-1, 1)
    >>> MLPRegressor(solver="lbfgs", random_state=0).fit(X, X[:, 0] ** 2).score(X, X[:, 0] ** 2) > 0.99
    True
    """
    )

    _left = {"_unit": (tuple, type(None))}

    def __init__(
        self,
        loss: LossLike = "squared_error",
        hidden_layer_sizes: int | Sequence[int] = (100,),
        activation: Activation | Sequence[Activation] = "relu",
        *,
        solver: Literal["adam", "sgd", "lbfgs"] = "adam",
        alpha: float = 0.0001,
        batch_size: int | Literal["auto"] = "auto",
        learning_rate: Literal["constant", "invscaling", "adaptive"] = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: int | np.random.RandomState | None = None,
        tol: float = 1e-4,
        verbose: bool | int = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        dropout: float | Sequence[float] = 0.0,
        norm: Norm | Sequence[Norm | None] | None = None,
        residual: bool | Sequence[bool] = False,
        embeddings: Mapping[int | str, Sequence[int]] | None = None,
        ema: float | None = None,
        optimizer: OptimizerLike | None = None,
        callbacks: Iterable[Callback] | None = None,
        preset: Literal["tabular"] | tabular.TabularPreprocessor | None = None,
        n_ensemble: int = 1,
        bootstrap: bool = False,
        dtype: Literal["auto", "float32", "float64"] = "auto",
        device: Device = "auto",
        threads: int | None = None,
        n_jobs: int | None = None,
    ) -> None:
        store(locals())

    def fit(
        self,
        X: Features,
        y: Targets,
        sample_weight: SampleWeight = None,
        *,
        validation_data: tuple[Features, Targets] | None = None,
    ) -> MLPRegressor:
        """Train on X (N, features), array, frame or sparse, and y (N,) or (N, outputs).

        sample_weight, validation_data, sparse X : as MLPClassifier.fit has them. Returns self.
        """
        return self._fit(X, y, sample_weight, validation_data)

    @available_if(lambda self: self._check_solver())
    def partial_fit(self, X: Features, y: Targets, sample_weight: SampleWeight = None) -> MLPRegressor:
        """One epoch over X, y. Returns self."""
        return self._fit(X, y, sample_weight, incremental=True)

    def _targets(self, X, y, incremental, reset):
        for_numbers(self.loss, 1)
        X, y = self._features(X, y, reset, multi_output=True, y_numeric=True)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        self.n_outputs_ = 1 if y.ndim == 1 else y.shape[1]
        self._chosen_loss = for_numbers(self.loss, self.n_outputs_)
        self.out_activation_ = self._chosen_loss.out_activation
        if self._p.preset is None or self._chosen_loss.link == "exp":
            self._unit = None
        elif reset:
            y = y.astype(np.float64)
            scale = y.std(axis=0)
            self._unit = y.mean(axis=0), np.where(scale > 0, scale, 1.0), y.min(axis=0), y.max(axis=0)
        return X, y if self._unit is None else (y - self._unit[0]) / self._unit[1]

    def _constant(self, y, weight):
        if self.loss != "poisson":
            return 0.0
        return float(np.sum(np.average(special.xlogy(y, y) - y, weights=weight, axis=0)))

    def _score_of(self, outputs, y, sample_weight):
        if not np.isfinite(outputs).all():
            return float("nan")
        return r2_score(y, outputs[:, : self.n_outputs_], sample_weight=sample_weight)

    @overload
    def predict(self, X: Features, return_std: Literal[False] = False) -> Array: ...
    @overload
    def predict(self, X: Features, return_std: Literal[True]) -> tuple[Array, Array]: ...
    @overload
    def predict(self, X: Features, return_std: bool = False) -> Any: ...
    def predict(self, X: Features, return_std: bool = False) -> Any:
        """Numbers (N,), or (N, outputs), for X (N, features). return_std : a pair, these and their standard
        deviations: with the loss gaussian_nll of the distribution, an ensemble's being the mixture of its
        networks'; with others, of an ensemble, between its networks. See ``fb.Ensemble.predict``.
        """
        check_is_fitted(self)
        several, link = "estimators_" in vars(self), self._chosen_loss.link
        if flag("return_std", return_std) and link != "gaussian" and not several:
            raise ValueError(
                f"return_std: got {return_std} with the loss {self.loss}, takes "
                "'gaussian_nll' or n_ensemble of 2 or more"
            )
        X, k = self._features(X, reset=False), self.n_outputs_
        if return_std and several:
            parts = ensemble.mixture(self._each(X), link, True)
        elif return_std:
            outputs, scale = self._trainer.predict(X), 1.0 if self._unit is None else self._unit[1]
            parts = self._own(outputs)[:, :k], np.sqrt(outputs[:, k:]) * scale
        else:
            parts = (self._outputs(X)[:, :k],)
        parts = tuple(part[:, 0] if k == 1 else part for part in parts)
        return parts if return_std else parts[0]

    def _own(self, outputs):
        """In the target's own unit, from its smallest to its largest."""
        if self._unit is None:
            return outputs
        (mean, scale, low, high), k = self._unit, self.n_outputs_
        numbers = np.clip(outputs[:, :k] * scale + mean, low, high)
        return np.hstack([numbers, outputs[:, k:] * scale**2]) if outputs.shape[1] > k else numbers
