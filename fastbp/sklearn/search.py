"""Searches of scikit-learn over our estimators, their networks trained together; cross_validate likewise."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from math import floor, log
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn import model_selection
from sklearn.base import clone
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import GridSearchCV, HalvingRandomSearchCV, ParameterGrid, RandomizedSearchCV
from sklearn.pipeline import Pipeline

from ..errors import flag
from . import shared
from .base import Estimator, holding
from .parameters import store
from .together import together

if TYPE_CHECKING:
    from typing import Literal

    from ..types import Array, Features, Targets

    Space = Mapping[str, Any] | Sequence[Mapping[str, Any]]
    Scoring = str | Callable[..., Any] | Sequence[str] | Mapping[str, Any] | None


class _Together:
    """A search whose networks are trained together, and what stands before them fitted once a fold."""

    estimator: Any
    refit: Any
    scoring: Any
    verbose: Any

    def fit(self, X: Features, y: Targets | None = None, **params: Any) -> Any:
        """Try all candidates on all folds, and fit the best one on all rows.

        X : (N, features), y : (N,) or (N, outputs), as the estimator takes them. params : groups for the
        splitter; sample_weight (N,) and whatever else the estimator's fit takes. Returns self. Raises as
        the estimator does where error_score="raise"; ValueError where every fit failed.
        """
        self._check_flags()
        with together(), shared.in_force(shared.Search()), self._remembering():
            super().fit(X, y, **params)  # type: ignore[misc]  # of the search that it stands before
        return self

    def _check_flags(self):
        """Raises TypeError or ValueError for text in the place of a flag."""
        for name in ("return_train_score", "aggressive_elimination"):
            if hasattr(self, name):
                flag(name, getattr(self, name))
        check_verbose(self.verbose)
        if isinstance(self.refit, str) and (self.scoring is None or isinstance(self.scoring, str)):
            raise ValueError(
                f"refit: got {self.refit!r}, takes True, False or a function; a score's name where scoring "
                "has several"
            )

    @contextmanager
    def _remembering(self):
        """Pipelines before our networks keep what they fit, for the time of the search."""
        given, self.estimator = self.estimator, clone(self.estimator, safe=False)
        names = [
            f"{name}__memory".removeprefix("__")
            for name, part in {"": self.estimator, **_parts(self.estimator)}.items()
            if isinstance(part, Pipeline) and part.memory is None and isinstance(part.steps[-1][1], Estimator)
        ]
        try:
            if names:
                self.estimator.set_params(**dict.fromkeys(names, shared.Memory()))
            yield
        finally:
            self.estimator = given
        if self.refit:
            best = self.best_estimator_
            best.set_params(**dict.fromkeys(name for name in names if name in _parts(best)))


def check_verbose(verbose: Any) -> None:
    """Raises TypeError for what is no number."""
    if not isinstance(verbose, (int, np.integer, np.bool_)):
        raise TypeError(f"verbose: got {verbose!r}, takes True, False or a whole number")


def _parts(estimator):
    """{name: value} of all parameters, those of parts too."""
    return estimator.get_params(deep=True) if hasattr(estimator, "get_params") else {}


def _told(callback_ctx):
    """The context of callbacks, which scikit-learn has from 1.9 on."""
    return {} if callback_ctx is None else {"callback_ctx": callback_ctx}


def _constraints(kind: type, optional: str) -> dict[str, Any]:
    """scikit-learn's checks of a search's parameters, of which ``optional`` may be None too."""
    theirs = dict(vars(kind)["_parameter_constraints"])
    theirs.pop("resource", None)
    return theirs | {optional: [*theirs[optional], None]}


class MLPSearchCV(_Together, RandomizedSearchCV):
    """GridSearchCV or RandomizedSearchCV over our estimators: all candidates and folds in one call.

    Parameters are theirs, and so are the attributes (cv_results_, best_estimator_, best_params_, best_score_,
    best_index_, scorer_, n_splits_, refit_time_, multimetric_), the methods of the best estimator and, given
    the same candidates and folds, the results, to the bit. In a pipeline that ends in a network the steps
    before it are fitted once a fold, not once a candidate; so is a preset's preparation.

    estimator : one of ours, or a pipeline or another estimator of scikit-learn around one.
    param_distributions : dict {parameter: list, or distribution with rvs}, or a list of such dicts.
    n_iter : candidates to draw, by random_state; None: all combinations of the lists, as GridSearchCV.
    scoring, refit, cv, verbose, pre_dispatch, error_score, return_train_score : as they have them. n_jobs
    has no effect: all cores work, each on a network of its own.

    >>> from sklearn.datasets import load_iris
    >>> from fastbp.sklearn import MLPClassifier, MLPSearchCV
    >>> network = MLPClassifier(preset="tabular", max_iter=5, random_state=0)
    >>> search = MLPSearchCV(network, {"hidden_layer_sizes": [(8,), (8, 8)], "dropout": [0.0, 0.1]}, cv=3)
    >>> len(search.fit(*load_iris(return_X_y=True)).cv_results_["params"])
    4
    """

    _parameter_constraints = _constraints(RandomizedSearchCV, "n_iter")

    def __init__(
        self,
        estimator: Any,
        param_distributions: Space,
        *,
        n_iter: int | None = None,
        scoring: Scoring = None,
        n_jobs: int | None = None,
        refit: bool | str | Callable[..., int] = True,
        cv: Any = None,
        verbose: int = 0,
        pre_dispatch: int | str = "2*n_jobs",
        random_state: int | np.random.RandomState | None = None,
        error_score: float | Literal["raise"] = np.nan,
        return_train_score: bool = False,
    ) -> None:
        store(locals())

    @property
    def param_grid(self) -> Space:
        """param_distributions, as GridSearchCV calls them."""
        return self.param_distributions

    def _run_search(self, evaluate_candidates, *, callback_ctx=None):
        kind = GridSearchCV if self.n_iter is None else RandomizedSearchCV
        kind._run_search(self, evaluate_candidates, **_told(callback_ctx))


class MLPHalvingSearchCV(_Together, HalvingRandomSearchCV):
    """HalvingRandomSearchCV with epochs as the resource: who survives a round goes on from where it stopped.

    Every candidate trains for min_resources epochs on all folds; the best one in ``factor`` goes on until it
    has factor times as many, and so on. The state after r epochs in several rounds is, to the bit, that of a
    fit of r epochs (max_iter=r): weights, solver, records. So cv_results_ are those of
    HalvingRandomSearchCV(resource="max_iter"), which begins anew in each round. Two exceptions: a preset's
    learning rate follows a plan, made here for the epochs of the last round, so that only what the last round
    finds is that of a fit of so many epochs; and solver="lbfgs" and networks with callbacks begin anew. A
    network that its own early stopping or tol has ended is done: later rounds keep it as it is.

    estimator, param_distributions, scoring, refit, cv, verbose, random_state, error_score,
    return_train_score, factor, aggressive_elimination : as HalvingRandomSearchCV has them; one network only.
    n_candidates : how many to begin with; "exhaust": so many that the last round comes to max_resources;
    None: all combinations of lists. min_resources : epochs of the first round, "smallest" (1), or "exhaust":
    so many that the last round comes to max_resources. max_resources : epochs at most; "auto": the
    network's max_iter.

    Attributes are those of HalvingRandomSearchCV, resources being epochs: n_resources_, n_candidates_,
    n_remaining_candidates_, n_iterations_, n_possible_iterations_, n_required_iterations_, min_resources_,
    max_resources_; cv_results_ has iter and n_resources. Raises ValueError as it does, and for an estimator
    without a network of ours or with several.

    >>> from sklearn.datasets import load_iris
    >>> from fastbp.sklearn import MLPClassifier, MLPHalvingSearchCV
    >>> space = {"hidden_layer_sizes": [(4,), (8,), (16,)], "alpha": [0.0, 0.01, 0.1]}
    >>> network = MLPClassifier(max_iter=9, random_state=0)
    >>> search = MLPHalvingSearchCV(network, space, n_candidates=None, cv=3, random_state=0)
    >>> search.fit(*load_iris(return_X_y=True)).n_resources_
    [1, 3, 9]
    """

    _parameter_constraints = _constraints(HalvingRandomSearchCV, "n_candidates")

    def __init__(
        self,
        estimator: Any,
        param_distributions: Space,
        *,
        n_candidates: int | Literal["exhaust"] | None = "exhaust",
        factor: float = 3,
        max_resources: int | Literal["auto"] = "auto",
        min_resources: int | Literal["exhaust", "smallest"] = "smallest",
        aggressive_elimination: bool = False,
        cv: Any = 5,
        scoring: str | Callable[..., Any] | None = None,
        refit: bool | Callable[..., int] = True,
        error_score: float | Literal["raise"] = np.nan,
        return_train_score: bool = True,
        random_state: int | np.random.RandomState | None = None,
        n_jobs: int | None = None,
        verbose: int = 0,
    ) -> None:
        store(locals())

    pre_dispatch = "2*n_jobs"

    @property
    def resource(self) -> str:
        """The parameter that is the network's epochs. Raises ValueError where there is not one."""
        if isinstance(self.estimator, Estimator):
            return "max_iter"
        found = [name for name, part in _parts(self.estimator).items() if isinstance(part, Estimator)]
        if len(found) != 1:
            raise ValueError(
                f"estimator: got {self.estimator!r} with {len(found)} networks of fastbp, takes one of them"
            )
        return f"{found[0]}__max_iter"

    def _check_input_parameters(self, X, y, split_params):
        given = self.max_resources
        self.max_resources = self._epochs() if given == "auto" else given
        try:
            super()._check_input_parameters(X, y, split_params)
        finally:
            self.max_resources = given

    def _epochs(self):
        """The network's own: a preset's where it was left at its default."""
        path = self.resource.rpartition("__")[0]
        network = _parts(self.estimator)[path] if path else self.estimator
        return holding(network)["max_iter"]

    def _generate_candidate_params(self):
        if self.n_candidates is None:
            return list(ParameterGrid(self.param_distributions))
        return super()._generate_candidate_params()

    def _run_search(self, evaluate_candidates, *, callback_ctx=None):
        search: Any = shared.present()

        def evaluate(candidates, *arguments, **options):
            if search.planned is None:
                search.planned = self._last(len(candidates))
            search.next_round()
            return evaluate_candidates(candidates, *arguments, **options)

        super()._run_search(evaluate, **_told(callback_ctx))

    def _last(self, candidates):
        """The epochs of the last round."""
        needed = floor(log(candidates, self.factor))
        most = floor(log(self.max_resources_ // self.min_resources_, self.factor))
        rounds = max(0, most) if self.aggressive_elimination else min(needed, most)
        return min(int(self.factor**rounds * self.min_resources_), self.max_resources_)


def cross_validate(estimator: Any, X: Features, y: Targets | None = None, **options: Any) -> dict[str, Array]:
    """scikit-learn's cross_validate with the same arguments and results: all folds in one compiled call.

    >>> from sklearn.datasets import load_iris
    >>> from fastbp.sklearn import MLPClassifier, cross_validate
    >>> network = MLPClassifier((8,), preset="tabular", max_iter=5, random_state=0)
    >>> cross_validate(network, *load_iris(return_X_y=True), cv=3)["test_score"].shape
    (3,)
    """
    check_verbose(options.get("verbose", 0))
    with together():
        return model_selection.cross_validate(estimator, X, y, **options)


cross_validate.__signature__ = inspect.signature(model_selection.cross_validate)  # type: ignore[attr-defined]
