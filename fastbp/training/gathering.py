"""Fits that programs of others ask for one by one, trained together: each program waits while they run.

scikit-learn's searches, folds and ensembles are loops over ``estimator.fit``. Here every pass through such a
loop is a task with a thread of its own. Only one of them runs at a time, in the order given, until it comes
to a fit; when all have come, their networks are trained in one compiled call, and they go on. Networks on
a GPU train in turns by the same tasks: while the device works at what one has launched, the next launches.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ..engine import turns

if TYPE_CHECKING:
    from ..engine.history import History
    from .fitting import Fit

_here = threading.local()  # .task: what this thread runs


class Task:
    """One program among those that run together; ``result`` is what it returned, ``error`` what it raised."""

    def __init__(self, program: Callable[[], Any], gathers: bool = True) -> None:
        self.program, self.gathers = program, gathers
        self.result: Any = None
        self.error: BaseException | None = None
        self.fits: list[Fit] = []  # that it waits for
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

    def pause(self) -> None:
        """Let others run until ``go_on`` is called. Raises Ended where that is to end it."""
        self._others.release()
        self._mine.acquire()
        if self.stopped:
            raise turns.Ended

    def end(self) -> None:
        """End it where it pauses, if it does."""
        if self._thread is not None and not self.done:
            self.stopped = True
            self.go_on()

    def wait_for_all(self, fits: list[Fit]) -> None:
        """Have fits trained with those of others; what one raises is its ``history.error``."""
        self.fits = fits
        self.pause()
        self.fits = []

    def wait_for(self, fit: Fit) -> History:
        """Have a fit trained with those of others; raises what it raises."""
        self.wait_for_all([fit])
        if fit.history.error is not None:
            raise fit.history.error
        return fit.history

    def _run(self):
        if self.gathers:
            _here.task = self
        else:
            turns.here.pause = self.pause
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
                    self.train([fit for other in self.tasks for fit in other.fits])
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End all tasks where they are."""
        for task in self.tasks:
            if task.fits:
                task.end()
        self.tasks.clear()


def interleave(programs: Iterable[Callable[[], Any]]) -> None:
    """Run programs one at a time, each until it ends or lets others go on (turns.py), again and again.

    What one raises is raised, and Ctrl-C, when all the others have been ended where they were.
    """
    tasks = [Task(program, gathers=False) for program in programs]
    try:
        while left := [task for task in tasks if not task.done]:
            for task in left:
                task.go_on()
                if task.error is not None:
                    raise task.error
    except BaseException:
        for task in tasks:
            task.end()
        raise


def present() -> Task | None:
    """The task that this thread runs, if it runs one."""
    return getattr(_here, "task", None)
