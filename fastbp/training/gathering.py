"""Fits that programs of others ask for one by one, trained together: each program waits while they run.

scikit-learn's searches, folds and ensembles are loops over ``estimator.fit``. Here every pass through such a
loop is a task with a thread of its own. Only one of them runs at a time, in the order given, until it comes
to a fit; when all have come, their networks are trained in one compiled call, and they go on.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..engine.history import History
    from .fitting import Fit

_here = threading.local()  # .task: what this thread runs


class Task:
    """One program among those that run together; ``result`` is what it returned, ``error`` what it raised."""

    def __init__(self, program: Callable[[], Any]) -> None:
        self.program = program
        self.result: Any = None
        self.error: BaseException | None = None
        self.fit: Fit | None = None  # that it waits for
        self.done = self.stopped = False
        self._mine, self._others = threading.Semaphore(0), threading.Semaphore(0)
        self._thread: threading.Thread | None = None

    def go_on(self) -> None:
        """Let it run until it is done or comes to a fit."""
        if self._thread is None:
            context = contextvars.copy_context()  # NumPy's errstate for one is of a context
            self._thread = threading.Thread(target=context.run, args=(self._run,), daemon=True)
            self._thread.start()
        else:
            self._mine.release()
        self._others.acquire()

    def wait_for(self, fit: Fit) -> History:
        """Have a fit trained with those of others; raises what it raises."""
        self.fit = fit
        self._others.release()
        self._mine.acquire()
        self.fit = None
        if self.stopped:
            raise KeyboardInterrupt
        if fit.history.error is not None:
            raise fit.history.error
        return fit.history

    def _run(self):
        _here.task = self
        try:
            self.result = self.program()
        except BaseException as error:
            self.error = error
        self.done = True
        self._others.release()


class Gathering:
    """Tasks that run together. train : trains the fits that they have come to."""

    def __init__(self, train: Callable[[list[Fit]], None]) -> None:
        self.train = train
        self.tasks: list[Task] = []

    def add(self, program: Callable[[], Any]) -> Task:
        """A new task, which has not begun."""
        self.tasks.append(Task(program))
        return self.tasks[-1]

    def run_until(self, task: Task, each: Callable[[Task], object]) -> None:
        """Run all tasks that there are until ``task`` is done; each(task) is called when one is. Ctrl-C ends
        them all."""
        try:
            while not task.done:
                for other in list(self.tasks):
                    other.go_on()
                    if other.done:
                        self.tasks.remove(other)
                        each(other)
                if not task.done:
                    self.train([other.fit for other in self.tasks if other.fit is not None])
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End all tasks where they are."""
        for task in self.tasks:
            if task.fit is not None:
                task.stopped = True
                task.go_on()
        self.tasks.clear()


def present() -> Task | None:
    """The task that this thread runs, if it runs one."""
    return getattr(_here, "task", None)
