"""Files that are written whole or not at all: models, exports, pictures, tables, reports."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
from typing import IO, TYPE_CHECKING, Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TypeAlias

    FilePath: TypeAlias = str | bytes | os.PathLike[Any]

_LEFT = re.compile(r"\.fastbp-[0-9a-f]{16}\.tmp")  # names of files that are not yet what they will be
_OPEN = os.O_RDWR | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
_STREAMS = ("/dev/std", "/dev/fd/", "/proc/")  # what is written there is not kept under that name


@contextlib.contextmanager
def written(path: FilePath, mode: str = "wb", **options: Any) -> Iterator[IO[Any]]:
    """A file to write, ``path`` once the block is left; until then, and after an error, what was there stays.

    mode, options : as open() has them, "w" or "wb". It is made beside the target, flushed to the disk, and
    renamed. A link stays a link, a file keeps its mode and owner. Files that killed processes left in that
    folder are removed. What is no plain file, such as a pipe, is written as it comes. OSErrors name ``path``.
    """
    name = os.fsdecode(path)
    try:
        with _stream(name, mode, options) if _is_stream(name) else _beside(name, mode, options) as file:
            yield file
    except OSError as error:
        raise _named(error, name) from error


def append(path: FilePath, data: bytes) -> None:
    """Add bytes to the end of a file, all of them or none. OSErrors name ``path``."""
    name, left = os.fsdecode(path), memoryview(data)
    try:
        with open(name, "ab", buffering=0) as file:
            end = file.seek(0, os.SEEK_END) if file.seekable() else None
            try:
                while left:
                    left = left[file.write(left) :]
            except BaseException:
                if end is not None:
                    file.truncate(end)
                raise
    except OSError as error:
        raise _named(error, name) from error


def _named(error: OSError, path: str) -> OSError:
    """The same error, with the name that was asked for in place of a temporary one or of none."""
    if error.errno is None:  # NumPy's, of a full disk
        return OSError(errno.EIO, str(error), path)
    return OSError(error.errno, error.strerror, path)


def _is_stream(name: str) -> bool:
    if os.path.abspath(name).startswith(_STREAMS):
        return True
    try:
        kind = os.stat(name).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(kind) or stat.S_ISDIR(kind))


def _stream(name: str, mode: str, options: dict[str, Any]) -> IO[Any]:
    return open(name, mode, **options)


@contextlib.contextmanager
def _beside(name: str, mode: str, options: dict[str, Any]) -> Iterator[IO[Any]]:
    target = os.path.realpath(name)
    if not name or os.path.isdir(target) or name.endswith(os.sep):
        open(name, mode).close()  # raises what it always has
    there = os.stat(target) if os.path.exists(target) else None
    if there is not None and not os.access(target, os.W_OK):  # a rename would not ask
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), name)
    folder = os.path.dirname(target)
    _tidy(folder)
    temporary, handle, lock = _new(folder, 0o666 if there is None else stat.S_IMODE(there.st_mode))
    try:
        with os.fdopen(handle, mode, **options) as file:
            if there is not None:
                _like(file.fileno(), there)
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):  # renamed just before Ctrl-C came
            os.unlink(temporary)
        raise
    finally:
        if lock is not None:
            os.close(lock)
    _flush(folder)


def _new(folder: str, mode: int) -> tuple[str, int, int | None]:
    """(name, descriptor, another one that keeps it locked until the rename, or None) of a new file."""
    while True:
        name = os.path.join(folder, f".fastbp-{secrets.token_hex(8)}.tmp")
        handle = os.open(name, _OPEN | os.O_CREAT | os.O_EXCL, mode)
        try:
            _lock(handle)
        except BlockingIOError:  # somebody takes it for left over, who came before the lock
            os.close(handle)
            continue
        except OSError:  # a disk without locks
            return name, handle, None
        if os.fstat(handle).st_nlink:
            return name, handle, os.dup(handle)
        os.close(handle)


def _lock(handle: int) -> None:
    """Lock a file for as long as it is open. Raises BlockingIOError where another process has."""
    if fcntl is None:
        raise OSError(errno.ENOLCK, "no locks")
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _tidy(folder: str) -> None:
    """Remove files that nobody goes on writing: their process was killed. Without locks nobody knows."""
    with contextlib.suppress(OSError):
        for name in filter(_LEFT.fullmatch, os.listdir(folder)):
            with contextlib.suppress(OSError):
                handle = os.open(os.path.join(folder, name), _OPEN)
                try:
                    _lock(handle)
                    os.unlink(os.path.join(folder, name))
                finally:
                    os.close(handle)


def _like(handle: int, there: os.stat_result) -> None:
    """Give a file the mode and, where that is allowed, the owner of another."""
    if not hasattr(os, "fchmod"):
        return
    with contextlib.suppress(OSError):
        os.fchown(handle, there.st_uid, there.st_gid)
    os.fchmod(handle, stat.S_IMODE(there.st_mode))


def _flush(folder: str) -> None:
    """Make a rename outlast a loss of power; Windows and some network disks have no such thing."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
