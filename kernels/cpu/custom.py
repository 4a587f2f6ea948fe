"""Activations and losses of the user's own, and losses whose outputs have weights: each a small module of its
own, called through its address.

The program treats a code from codes.USER on as the address of such a function. So a new one compiles in
parts of a second, everything else stays as it is, and who has none pays nothing.
"""

import functools
import hashlib
import json

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .. import custom, disk
from ..jit import program
from .dense import ACTIVATE, write_activation
from .losses import LOSS_ROWS, write_losses
from .simd import I64, Emitter, _target, leaf_arguments, leaf_type

COMPILED = []  # compiled functions: their machine code must stay


def _write_activation(definition, e, arguments):
    def both(m, z):
        return custom.evaluate(m, definition["nodes"], definition["wanted"], [z])

    write_activation(e, both, *arguments)


def _write_loss(definition, e, arguments):
    return write_losses(e, custom.loss_of(definition), arguments, definition.get("weighed", False))


KINDS = {
    "activation": (_write_activation, ACTIVATE, None),
    "loss": (_write_loss, LOSS_ROWS, "i"),
}


def _emit(text):
    """An intrinsic that compiles the definition's function and puts its address into table[0]."""
    definition = json.loads(text)
    write, kinds, returns = KINDS[definition["kind"]]

    def emit(typingctx, table, like):
        def codegen(context, builder, sig, args):
            real, target = context.get_value_type(sig.args[1].dtype), _target(context)
            function = ir.Function(builder.module, leaf_type(kinds, returns, real), "fastbp.user.code")
            function.linkage = "internal"
            body = ir.IRBuilder(function.append_basic_block("entry"))
            arguments = list(leaf_arguments(kinds, function.args))
            result = write(definition, Emitter(builder.module, body, real, target), arguments)
            body.ret(result) if returns else body.ret_void()
            data = context.make_array(sig.args[0])(context, builder, args[0]).data
            builder.store(builder.ptrtoint(function, I64), data)
            return context.get_dummy_value()

        return types.void(table, like), codegen

    return intrinsic(emit)


@functools.cache
def address(text, dtype):
    """The address of a definition's function for a numpy dtype: compiled, or from the disk cache.

    text: JSON of {"kind": "activation" or "loss", "nodes": ..., "wanted": [value, slope]}, or of a loss of
    ours {"kind": "loss", "code": ...}; with "weighed": true outputs have weights. The cache knows it by its
    digest, which is in the name of what is compiled.
    """
    name = f"user_{hashlib.sha256(text.encode()).hexdigest()[:32]}"
    space = {"emit": _emit(text), "__name__": __name__}
    exec(compile(f"def {name}(table, like):\n    emit(table, like)\n", __file__, "exec"), space)
    compiled = program(parallel=False)(space[name])
    table = np.zeros(1, np.int64)
    with disk.alone():
        compiled(table, np.empty(0, dtype))
    COMPILED.append(compiled)
    return int(table[0])
