"""The decorators of every CPU kernel, with a disk cache that sees all kernel sources.

Numba keys a cached function on its own file alone: after a change in a helper of another file the
old machine code runs on. Here the key is a digest of every kernel source, so any edit recompiles.
"""

import contextlib
import functools
import hashlib
import os
import subprocess
import sys
from pathlib import Path

from numba import njit
from numba.core import caching, compiler
from numba.core.codegen import JITCodeLibrary

from . import disk

ROOT = Path(__file__).resolve().parent

HELPER_SECONDS = 60  # seconds to wait for a process that compiles meanwhile, at most

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


class _File(disk.Checked, caching.IndexDataCacheFile):
    pass


class _Cache(disk.Kept, caching.FunctionCache):
    _impl_class, file_class = _Impl, _File

    def holds(self, signature, context):
        """Whether the machine code for a tuple of types lies on the disk."""
        return self._cache_file.holds(self._index_key(signature, context.codegen()))


class _Library(JITCodeLibrary):
    """Numba optimizes each function when it is compiled, and again in each of its callers, most of it for the
    sake of reference counts, which pointers do not have. Here a whole program is optimized, once."""

    def _optimize_functions(self, module):
        module.data_layout = self._codegen._data_layout

    def _optimize_final_module(self):
        passes, builder = self._codegen._module_pass_manager()
        passes.run(self._final_module, builder)


class _Part(_Library):
    """A helper's code: linked into its callers as it was written, never machine code of its own."""

    def _optimize_final_module(self):
        pass

    def _finalize_final_module(self):
        self._finalize_dynamic_globals()
        self._finalized = True


class _Compiler(compiler.Compiler):
    kind = _Library

    def compile_extra(self, func):
        self.state.flags.no_compile = self.kind is _Part
        self.state.library = self.kind(self.state.targetctx.codegen(), func.__qualname__)
        self.state.library.enable_object_caching()
        return super().compile_extra(func)


class _PartCompiler(_Compiler):
    kind = _Part


def jit(function):
    """Compile a helper that other kernels call; it is cached as a part of its callers."""
    dispatcher = njit(pipeline_class=_PartCompiler, **FLAGS)(function)

    def add_overload(found):  # as numba's, but that there is no address for calls from Python
        key = object()
        found.target_context.insert_user_function(key, found.fndesc, [found.library])
        dispatcher.overloads[tuple(found.signature.args)] = found._replace(entry_point=key)

    dispatcher.add_overload = add_overload
    return dispatcher


def is_part(function):
    """Whether it was compiled by ``jit``."""
    return getattr(getattr(function, "_compiler", None), "pipeline_class", None) is _PartCompiler


def program(parallel=False, python=True):
    """Compile something whole, without the GIL, its machine code kept on disk.

    python: whether Python calls it; otherwise others do, by the address that ``address_of`` tells.
    """

    def decorate(function):
        flags = {**FLAGS, "no_cpython_wrapper": not python}
        if not parallel:  # parallel regions are compiled by numba's own ways
            flags["pipeline_class"] = _Compiler
        dispatcher = njit(parallel=parallel, **flags)(function)
        try:
            dispatcher._cache = _Cache(function)
        except RuntimeError:  # no writable place: compile anew in each process
            pass
        return dispatcher

    return decorate


def address_of(dispatcher, signature):
    """Compile a program for a tuple of types, or load it from the disk; the address of its machine code."""
    dispatcher.compile(signature)
    found = dispatcher.overloads[signature]
    return found.library.get_pointer_to_function(found.fndesc.llvm_func_name)


def on_disk(dispatcher, signature):
    """Whether a program's machine code for a tuple of types can be loaded; None where nothing can be kept."""
    cache = dispatcher._cache
    return cache.holds(signature, dispatcher.targetctx) if isinstance(cache, _Cache) else None


def cache_path(dispatcher):
    """Folder that holds a program's machine code, or None where none is writable."""
    return getattr(dispatcher._cache, "cache_path", None)


def busy(dispatcher):
    """Whether another process compiles a program now."""
    return cache_path(dispatcher) is not None and disk.busy(cache_path(dispatcher))


@contextlib.contextmanager
def compiling(dispatcher, signature):
    """Around what compiles a program, or loads it: processes on an empty cache do it one after the other, so
    that all but the first load. Yields whether the machine code must be made and can be kept."""
    if on_disk(dispatcher, signature) is False:
        with disk.turn(cache_path(dispatcher)):
            yield on_disk(dispatcher, signature) is False
    else:
        with disk.alone():
            yield False


@contextlib.contextmanager
def helped(module, dtype):
    """Meanwhile another process calls ``module.compile_to_disk(dtype)``; where none can be had, nobody does.

    Threads would not do: Numba and LLVM's bindings let one compile at a time.
    """
    name, alone = Path(sys.executable or "").name.lower(), len(_processors()) < 2
    if alone or not name.startswith(("python", "pypy")) or getattr(sys, "frozen", False):
        yield
        return
    # the same modules as here, not those of the folder that this happens to run in
    code = f"import sys; sys.path[:] = {sys.path!r}; import numpy, {module} as program; "
    code += f"program.compile_to_disk(numpy.dtype({dtype.name!r}))"
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            **dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL),
        )
    except OSError:
        yield
        return
    try:
        yield
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(HELPER_SECONDS)
    finally:
        process.kill()
        process.wait()


def _processors():
    """Those that this process may use."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
