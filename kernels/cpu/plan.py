"""The tables as kernels read them: by the names that tables.py gives."""

from collections import namedtuple

from .. import codes, tables
from ..jit import jit
from .records import Matrix, Slice, Weights
from .simd import get, lanes_of, shift


def _record(name, table):
    """(a namedtuple of a table's fields, the function that reads it at a pointer).

    The function is written out, field by field: Numba has no loop over a record's fields. What a caller does
    not use, LLVM does not load.
    """
    record = namedtuple(name, table.record_names())
    loads = ", ".join(f"get(table, {field.place})" for field in table.fields)
    space = {"get": get, name: record}
    reader = f"{name.lower()}_of"
    exec(compile(f"def {reader}(table):\n    return {name}({loads})\n", __file__, "exec"), space)
    return record, jit(space[reader])


Header, header_of = _record("Header", tables.P)
Layer, layer_of = _record("Layer", tables.L)
Run, run_of = _record("Run", tables.R)
Embedding, embedding_of = _record("Embedding", tables.E)
Call, call_of = _record("Call", tables.K)
Job, job_of = _record("Job", tables.M)
Pass, pass_of = _record("Pass", tables.V)


@jit
def layer_at(plan, index):
    """Layer ``index``."""
    return layer_of(shift(plan, codes.HEADER + index * codes.LAYER_COLUMNS))


@jit
def _behind_layers(plan):
    """The runs of numeric columns, then the embeddings."""
    return shift(plan, codes.HEADER + header_of(plan).layers * codes.LAYER_COLUMNS)


@jit
def run_at(plan, index):
    """Run ``index`` of numeric columns."""
    return run_of(shift(_behind_layers(plan), index * codes.RUN_COLUMNS))


@jit
def embedding_at(plan, index):
    """Embedding ``index``."""
    runs = header_of(plan).runs * codes.RUN_COLUMNS
    return embedding_of(shift(_behind_layers(plan), runs + index * codes.EMBEDDING_COLUMNS))


@jit
def weights_of(params, this):
    """The weights of a layer."""
    return Weights(shift(params, this.w), this.ldw, this.fan_in, this.fan_out)


@jit
def rows_from(matrix, row):
    """A matrix without its first ``row`` rows."""
    return Matrix(shift(matrix.pointer, row * matrix.stride), matrix.stride)


@jit
def whole_vectors(like, count):
    """Vectors that hold ``count`` floats."""
    lanes = lanes_of(like)
    return (count + lanes - 1) // lanes


@jit
def cut(count, most):
    """Size of the next part when count is cut into the fewest parts of at most ``most``, all alike."""
    parts = (count + most - 1) // most
    return (count + parts - 1) // parts


@jit
def share_of(count, index, shares):
    """The Slice of count that number ``index`` of ``shares`` gets."""
    return Slice(count * index // shares, count * (index + 1) // shares)
