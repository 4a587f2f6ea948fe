"""Machine code on disk: files that are damaged count as absent, and processes that need the same take turns.

Numba unpickles whatever it finds there, and raises where it cannot write.
"""

import contextlib
import hashlib
import io
import os
import pickle
import re
import sys
import threading
import time

WAIT_SECONDS = 300  # to wait for another process that compiles, or for a thread to fork, at most
_LEFT = re.compile(r".+\.nb[ic]\.tmp\.[0-9a-f]+")  # of a process that was killed while it wrote
_OLD = 3600  # seconds after which nobody goes on writing such a file


class Checked:
    """For a subclass of numba's IndexDataCacheFile: each file begins with the SHA-256 of the rest of it."""

    @contextlib.contextmanager
    def _open_for_write(self, filepath):
        content = io.BytesIO()
        yield content
        data = content.getvalue()
        with super()._open_for_write(filepath) as file:
            file.write(hashlib.sha256(data).digest() + data)
        _tidy(os.path.dirname(filepath))

    def _load_index(self):
        content = io.BytesIO(_intact(self._index_path) or pickle.dumps(None))
        if pickle.load(content) != self._version:
            return {}
        stamp, overloads = pickle.loads(content.read())
        return overloads if stamp == self._source_stamp else {}

    def _load_data(self, name):
        content = _intact(self._data_path(name))
        if content is None:
            raise FileNotFoundError(name)  # which numba takes for what it is
        return pickle.loads(content)

    def holds(self, key):
        """Whether there is machine code of this key, by the look of it."""
        name = self._load_index().get(key)
        return name is not None and os.path.exists(self._data_path(name))


class Kept:
    """For a subclass of numba's Cache, with a ``file_class``: what cannot be read or written is compiled."""

    def __init__(self, function):
        super().__init__(function)
        base, stamp = self._impl.filename_base, self._impl.locator.get_source_stamp()
        self._cache_file = self.file_class(self._cache_path, base, stamp)

    @contextlib.contextmanager
    def _guard_against_spurious_io_errors(self):
        """Around each load and save: a full disk, say, ends nothing."""
        with contextlib.suppress(OSError):
            yield


def _intact(path):
    """What a file holds behind its checksum; None where there is none, or another one."""
    try:
        with open(path, "rb") as file:
            digest, content = file.read(32), file.read()
    except OSError:
        return None
    return content if hashlib.sha256(content).digest() == digest else None


def _tidy(folder):
    """Remove what killed processes left."""
    with contextlib.suppress(OSError):
        for name in filter(_LEFT.fullmatch, os.listdir(folder)):
            path = os.path.join(folder, name)
            if time.time() - os.stat(path).st_mtime > _OLD:
                os.unlink(path)


# --- turns


if sys.platform == "win32":
    import msvcrt

    def _lock(file):
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(file):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextlib.contextmanager
def turn(folder):
    """Meanwhile nobody else compiles for this folder: other threads and processes wait, and then load.

    The system takes the lock from a process that ends, however it ends; from one that hangs nobody does,
    so after WAIT_SECONDS both compile. So do all where a disk has no locks.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            file = stack.enter_context(open(os.path.join(folder, "compiling.lock"), "ab"))
            end = time.monotonic() + WAIT_SECONDS
            while not _locked(file) and time.monotonic() < end:
                time.sleep(0.05)
        with alone():
            yield


def busy(folder):
    """Whether another process has that turn now."""
    try:
        with open(os.path.join(folder, "compiling.lock"), "ab") as file:
            return not _locked(file)
    except OSError:
        return False


def alone():
    """A lock of this process's threads: one compiles or loads, and none forks meanwhile."""
    return _compiling


def _locked(file):
    """Whether it is ours; raises OSError where there are no locks."""
    try:
        _lock(file)
    except (BlockingIOError, PermissionError):  # another's; the latter on Windows
        return False
    return True


_compiling = threading.RLock()


def _before_fork():
    """A child has no other threads: what one of the parent's has begun to compile would never end there, and
    LLVM's and Numba's locks stay locked."""
    _compiling.acquire(timeout=WAIT_SECONDS)


def _after_fork():
    with contextlib.suppress(RuntimeError):  # not had in time
        _compiling.release()


def _in_child():
    global _compiling
    _compiling = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_in_child)
