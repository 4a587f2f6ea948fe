"""The one decorator of every CPU kernel, with a disk cache that sees all kernel sources.

Numba keys a cached function on its own file alone: after a change in a helper of another file the
old machine code runs on. Here the key is a digest of every kernel source, so any edit recompiles.
"""

import functools
import hashlib
from pathlib import Path

from numba import njit
from numba.core import caching

ROOT = Path(__file__).resolve().parent

# Contraction gives fused multiply-adds; nothing that reorders a sum or drops NaN is allowed.
FLAGS = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"contract"},
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
}


@functools.cache
def source_digest(device="cpu"):
    """Digest of a device's kernel sources: the stamp under which machine code is cached."""
    digest = hashlib.sha256()
    for path in sorted([*ROOT.glob("*.py"), *ROOT.glob(f"{device}/*.py")]):
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


class _DigestStamp:
    def get_source_stamp(self):
        return source_digest()


class _UserProvided(_DigestStamp, caching.UserProvidedCacheLocator):
    pass


class _InTree(_DigestStamp, caching.InTreeCacheLocator):
    pass


class _UserWide(_DigestStamp, caching.UserWideCacheLocator):
    pass


class _Impl(caching.CompileResultCacheImpl):
    # NUMBA_CACHE_DIR first, then beside the package, then the user's cache folder: numba's order.
    _locator_classes = [_UserProvided, _InTree, _UserWide]


class _Cache(caching.FunctionCache):
    _impl_class = _Impl


def jit(function):
    """Compile a helper that other kernels call; it is cached as a part of its callers."""
    return njit(**FLAGS)(function)


def program(parallel):
    """Compile what Python calls: without the GIL, its machine code kept on disk."""

    def decorate(function):
        dispatcher = njit(parallel=parallel, **{**FLAGS, "no_cpython_wrapper": False})(function)
        try:
            dispatcher._cache = _Cache(function)
        except RuntimeError:  # no writable place: compile anew in each process
            pass
        return dispatcher

    return decorate


def cache_path(dispatcher):
    """Folder that holds a program's machine code, or None where none is writable."""
    return getattr(dispatcher._cache, "cache_path", None)
