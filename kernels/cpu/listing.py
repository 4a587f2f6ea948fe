"""One function as LLVM has it after optimizing, or as the machine runs it: text for who writes kernels."""

import importlib
import pkgutil
import re

import numpy as np
from numba import types
from numba.core.caching import NullCache
from numba.np.numpy_support import from_dtype

from .. import jit
from . import __name__ as package
from . import __path__ as folder
from . import program, simd


def names():
    """Every function that ``listing`` shows: those written as IR, worker, and what is linked into it."""
    modules = [importlib.import_module(f"{package}.{info.name}") for info in pkgutil.iter_modules(folder)]
    linked = {name for module in modules for name, value in vars(module).items() if jit.is_part(value)}
    return sorted(linked | {*simd.LEAVES, "worker"})


def listing(name, dtype, assembly=True):
    """The text of one function, compiled now: machine code, or optimized IR.

    A function that was compiled for several kinds of arguments comes as often. LLVM may have written a
    helper into all its callers: then there is nothing of its own, and the text is empty.
    """
    dtype = np.dtype(dtype)
    floats = from_dtype(dtype)
    program.load(dtype)  # so that what worker calls has addresses
    if name in simd.LEAVES:
        emit = simd.emitting({name: simd.LEAVES[name]})

        def alone(table, like):
            emit(table, like)

        found = _compiled(jit.program()(alone), (types.int64[::1], floats[::1]))
        symbol = re.escape(simd.symbol(name, floats)) + r"\.code"
    else:
        signature = next(s for s in program.worker.overloads if s[0].types[0].dtype == floats)
        found = _compiled(jit.program(python=False)(program.worker.py_func), signature)
        symbol = rf"_ZN\w*\d{name}B\w*"
    if assembly:
        text, pattern = found.get_asm_str(), rf"^_?{symbol}:.*?(?=^\.?Lfunc_end\d+:)"
    else:
        text, pattern = found.get_llvm_str(), rf"^define [^\n]*@{symbol}\(.*?^}}$"
    return "\n\n".join(re.findall(pattern, text.replace('"', ""), re.M | re.S))


def _compiled(dispatcher, signature):
    dispatcher._cache = NullCache()  # machine code from the disk has no text
    dispatcher.compile(signature)
    return dispatcher.overloads[signature].library
