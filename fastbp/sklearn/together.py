"""together(): loops of scikit-learn over our estimators, their networks trained in one compiled call."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from joblib import parallel_config
from joblib.parallel import ParallelBackendBase

from ..training import many
from ..training.gathering import Gathering, Task

AT_ONCE = 64  # tasks, and so copies of the data that scikit-learn makes


class _Together(ParallelBackendBase):
    """A backend of joblib that runs all tasks in turns, up to their fits, and trains these together."""

    supports_sharedmem = uses_threads = True
    supports_retrieve_callback = False

    def effective_n_jobs(self, n_jobs: int) -> int:
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        return AT_ONCE

    def configure(self, n_jobs: int = 1, parallel: Any = None, **_: Any) -> int:
        self.parallel, self._gathering = parallel, Gathering(many.train)
        self._told: dict[Task, Callable[[Any], Any]] = {}
        return self.effective_n_jobs(n_jobs)

    def submit(self, func: Callable[[], Any], callback: Callable[[Any], Any] | None = None) -> Task:
        task = self._gathering.add(func)
        if callback is not None:
            self._told[task] = callback
        return task

    def retrieve_result(self, out: Task, timeout: float | None = None) -> Any:
        def done(task):
            if task in self._told and task.error is None:
                self._told.pop(task)(task.result)  # which may send the next ones

        self._gathering.run_until(out, done)
        if out.error is not None:
            raise out.error
        return out.result

    def abort_everything(self, ensure_ready: bool = True) -> None:
        self._gathering.stop()

    def get_nested_backend(self) -> Any:
        from joblib._parallel_backends import SequentialBackend

        return SequentialBackend(nesting_level=1), None


def together() -> AbstractContextManager[Any]:
    """A context in which scikit-learn's loops over our estimators train their networks together.

    GridSearchCV, RandomizedSearchCV, HalvingGridSearchCV, cross_validate, cross_val_score, VotingClassifier,
    BaggingRegressor, MultiOutputRegressor and whatever else gives its loop to joblib: up to 64 passes at a
    time run until each comes to ``fit``, then all of these networks are trained in one compiled call
    (``fb.fit_many``), each by one thread. The results are those without it, to the bit, whatever n_jobs says.

    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import cross_val_score
    >>> from fastbp.sklearn import MLPClassifier, together
    >>> network = MLPClassifier((8,), preset="tabular", max_iter=5, random_state=0)
    >>> with together():
    ...     scores = cross_val_score(network, *load_iris(return_X_y=True), cv=3)
    >>> scores.shape
    (3,)
    """
    return parallel_config(backend=_Together(), n_jobs=-1)
