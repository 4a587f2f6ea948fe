"""Items read ahead by a thread while the one before is trained on."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    T = TypeVar("T")


def read_ahead(batches: Iterable[T], ahead: int = 2) -> Iterator[T]:
    """The items of an iterable, at most ``ahead`` of them made before they are asked for, by a thread.

    What the iterable raises is raised here, after the items before it. Leaving the loop ends the
    thread after the item that it is making.

    >>> batches = ((X[k : k + 2], y[k : k + 2]) for k in (0, 2))
    >>> [len(labels) for _, labels in fb.data.read_ahead(batches)]
    [2, 2]
    """
    made: queue.Queue[tuple[str, Any]] = queue.Queue(maxsize=max(1, ahead))
    stop = threading.Event()

    def give(kind: str, item: Any) -> bool:
        while not stop.is_set():
            try:
                made.put((kind, item), timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def make() -> None:
        try:
            for item in batches:
                if not give("item", item):
                    return
            give("end", None)
        except BaseException as error:  # also KeyboardInterrupt: it belongs to who reads
            give("error", error)

    thread = threading.Thread(target=make, name="fastbp read-ahead", daemon=True)
    thread.start()
    try:
        while True:
            kind, item = made.get()
            if kind == "end":
                return
            if kind == "error":
                raise item
            yield item
    finally:
        stop.set()
