"""A process for each peer, so that none sees another's threads or libraries, all pinned alike.

Every worker may run on the first ``threads`` usable cores, with every thread variable set to that
number before anything is imported. Waiting policies (OMP_WAIT_POLICY, KMP_BLOCKTIME, GOMP_SPINCOUNT,
OPENBLAS_THREAD_TIMEOUT) keep their defaults, since a passive one would slow its owner down. Threads
that spin after their work stop within that: OpenBLAS's after 2**28 cycles (110 ms measured), the
others' after some 10 ms. So everyone sleeps for REST seconds before each timed run; the idle workers
then use no processor time. Time is taken inside the worker, around the run alone.
"""

import contextlib
import multiprocessing
import os
import time
import traceback

REST = 0.2

_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


class PeerFailed(Exception):
    """What went wrong in a worker, in one line; the traceback as a second argument."""


@contextlib.contextmanager
def thread_variables(threads):
    """The environment that a process with so many threads starts from, for a while."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, str(threads)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class Worker:
    """A peer in its own process. Use as a context manager.

    Methods of the peer's side (see _Server) are called by ``worker.call("name", ...)``.
    Raises PeerFailed for what was raised there, or if the process has ended.
    """

    def __init__(self, name, threads, server=None):
        self.name = name
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        with thread_variables(threads):
            self._process = context.Process(
                target=_serve, args=(other, server or _Server, name, threads), daemon=True
            )
            self._process.start()
        other.close()

    def call(self, method, *args):
        try:
            self._pipe.send((method, args))
            good, result = self._pipe.recv()
        except (EOFError, OSError):
            raise PeerFailed(f"{self.name}: its process has ended", "") from None
        if not good:
            raise PeerFailed(*result)
        return result

    def close(self):
        self._pipe.close()  # the other side sees the end of its input
        self._process.join(5)
        if self._process.is_alive():
            self._process.terminate()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()


def _serve(pipe, server, name, threads):
    """The worker's process: answers calls until the pipe closes."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    server = server(name, threads)
    while True:
        try:
            method, args = pipe.recv()
        except (EOFError, KeyboardInterrupt):
            return
        try:
            pipe.send((True, getattr(server, method)(*args)))
        except KeyboardInterrupt:
            return
        except BaseException as error:
            line = " ".join(str(error).split())[:200]
            pipe.send((False, (f"{type(error).__name__}: {line}", traceback.format_exc())))


class _Server:
    """What a worker can be asked for training: one case at a time."""

    def __init__(self, name, threads):
        self.name, self.threads = name, threads

    def open(self, case, orders):
        """Make the peer for a case, compile it by an epoch."""
        from . import peers

        self.peer = None  # its memory first
        self.peer = peers.load(self.name)(case, *case.data(), self.threads)
        self.orders = orders
        self.peer.reset()
        self.peer.run(orders[:1])
        return self.peer.note

    def draw_orders(self, count, epochs):
        """fastbp only: the orders that all peers follow."""
        from . import peers

        return peers.Fastbp.orders(count, epochs)

    def run(self, epochs):
        """(seconds, mean losses) of so many epochs from the initial weights on."""
        orders = [self.orders[i % len(self.orders)] for i in range(epochs)]
        self.peer.reset()
        start = time.perf_counter()
        losses = self.peer.run(orders)
        return time.perf_counter() - start, [float(loss) for loss in losses]
