"""The user's own activations and losses: kernels of their own, compiled in a second, kept on disk by digest.

A layer with such an activation leaves it to ``finish_layer``, so only that small kernel is made anew.
"""

import functools
import hashlib
import json

from .. import codes, custom
from .layers import finishing
from .losses import loss_kernel
from .scalar import compiled, decorate, function


@functools.cache
def kernel_of(text, dtype, namespace):
    """The kernel finish_layer or loss for one definition.

    text: as for cpu/custom.py; namespace: of a dtype gives what kernels call, program.load done.
    """
    definition = json.loads(text)
    names, digest = dict(namespace(dtype)), hashlib.sha256(text.encode()).hexdigest()
    names["_constants"] = dict(names["_constants"])

    if definition["kind"] == "loss":
        return loss_kernel(names, {codes.USER: custom.loss_of(definition)}, digest)

    def formula(m, *inputs):
        return custom.evaluate(m, definition["nodes"], definition["wanted"], inputs)

    function("users", ["z"], formula, names, dtype)
    compiled("def activate_both(code, z):\n    return users(z)\n", names, ["activate_both"])
    decorate(names, "activate_both")
    return finishing(names, names["activate_both"], digest)
