"""Rows of the user's data, in place and of any dtype, into the batch's floats."""

import numpy as np
from llvmlite import ir

from .. import codes
from ..jit import jit
from .simd import I8, I64, Value, address, emitted, get, shift

_IR = {
    ("f", 4): ir.FloatType(),
    ("f", 8): ir.DoubleType(),
    ("f", 2): ir.IntType(16),
    ("u", 1): ir.IntType(8),
    ("u", 2): ir.IntType(16),
    ("u", 4): ir.IntType(32),
    ("u", 8): ir.IntType(64),
}


def _half_to_float(e, raw, vector):
    """IEEE half to float32 by its bits: the instruction for it is not everywhere."""
    bd = e.b
    kinds = [ir.IntType(32), ir.FloatType()]
    integer, real = (ir.VectorType(k, e.lanes) if vector else k for k in kinds)

    def constant(kind, x):
        return ir.Constant(kind, [x] * e.lanes if vector else x)

    wide = bd.zext(raw, integer)
    size = bd.and_(wide, constant(integer, 0x7FFF))
    small = bd.icmp_unsigned("<", size, constant(integer, 0x400))  # no leading one
    finite = bd.icmp_unsigned("<", size, constant(integer, 0x7C00))
    bias = bd.select(finite, constant(integer, 112 << 23), constant(integer, 224 << 23))
    normal = bd.add(bd.shl(size, constant(integer, 13)), bias)
    low = bd.bitcast(bd.fmul(bd.uitofp(size, real), constant(real, 2.0**-24)), integer)
    sign = bd.shl(bd.and_(wide, constant(integer, 0x8000)), constant(integer, 16))
    return bd.bitcast(bd.or_(bd.select(small, low, normal), sign), real)


def _number(e, kind, raw, vector):
    """A raw number or vector of numpy's ``kind`` as the program's floats."""
    bd, target = e.b, e.vector if vector else e.real
    if kind == "f":
        if raw.type == target:
            return raw
        if "i16" in str(raw.type):
            raw = _half_to_float(e, raw, vector)
        return raw if raw.type == target else (bd.fpext if e.is64 else bd.fptrunc)(raw, target)
    return (bd.sitofp if kind == "i" else bd.uitofp)(raw, target)


def _for_each_dtype(e, dtype, case):
    """Run case(kind, item size, its LLVM type) for the code ``dtype``."""
    bodies = {}
    for (kind, size), code in codes.DTYPES.items():
        if kind != "b":
            item = _IR["f" if kind == "f" else "u", size]
            bodies[code] = lambda kind=kind, size=size, item=item: case(kind, size, item)
    e.switch(dtype, bodies)


@emitted("i i i i p", returns="i")
def convert_row(e, dtype, count, source, step, out):
    """out[c] = the number at address source + c * step (bytes), c < count; dtype: codes.DTYPES.

    Whole vectors where the numbers lie side by side, one by one at the end and for other steps.
    Returns 1 if a number is not finite as a float of the program, else 0.
    """
    bd = e.b
    bad, set_bad = e.cell(e.constant(0.0))  # x - x: 0, or NaN
    last_bad, set_last_bad = e.cell(Value(e, ir.Constant(e.real, 0.0)))

    def case(kind, size, item):
        base = bd.inttoptr(source, I8.as_pointer())
        packed = bd.icmp_signed("==", step, e.int(size))
        whole = bd.select(packed, bd.and_(count, e.int(-e.lanes)), e.int(0))
        with e.loop(whole, e.lanes) as c:
            vector = ir.VectorType(item, e.lanes)
            place = bd.bitcast(bd.gep(base, [bd.mul(c, e.int(size))]), vector.as_pointer())
            x = Value(e, _number(e, kind, bd.load(place, align=1), True))
            e.store(x, out, c)
            if kind == "f":
                set_bad(bad() + (x - x))
        with e.loop(bd.sub(count, whole)) as rest:
            c = bd.add(whole, rest)
            place = bd.bitcast(bd.gep(base, [bd.mul(c, step)]), item.as_pointer())
            x = _number(e, kind, bd.load(place, align=1), False)
            bd.store(x, e.at(out, c))
            if kind == "f":
                set_last_bad(Value(e, bd.fadd(last_bad().ir, bd.fsub(x, x))))

    _for_each_dtype(e, dtype, case)
    found = bd.fcmp_unordered("uno", (bad() + e.splat(last_bad().ir)).ir, e.constant(0.0).ir)
    bits = bd.bitcast(found, ir.IntType(e.lanes))
    return bd.zext(bd.icmp_unsigned("!=", bits, ir.Constant(bits.type, 0)), I64)


@emitted("i i i i i p", returns="i")
def scatter_row(e, dtype, count, stored, columns, values, out):
    """out[:count] = 0, then out[columns[k]] += values[k], k < stored: a row of a CSR matrix.

    columns, values: addresses of int32 and of numbers of ``dtype``. A column outside the row is left
    out: who changes the matrix while it trains gets other numbers, but writes nowhere else. Returns 1
    if a number is not finite as a float of the program, else 0.
    """
    bd = e.b
    bad, set_bad = e.cell(Value(e, ir.Constant(e.real, 0.0)))  # x - x: 0, or NaN
    whole = bd.and_(count, e.int(-e.lanes))
    with e.loop(whole, e.lanes) as c:
        e.store(e.constant(0.0), out, c)
    with e.loop(bd.sub(count, whole)) as rest:
        bd.store(ir.Constant(e.real, 0.0), e.at(out, bd.add(whole, rest)))
    places = bd.inttoptr(columns, ir.IntType(32).as_pointer())

    def case(kind, size, item):
        base = bd.inttoptr(values, item.as_pointer())
        with e.loop(stored) as k:
            column = bd.zext(bd.load(bd.gep(places, [k]), align=1), I64)
            with bd.if_then(bd.icmp_unsigned("<", column, count)):
                number = _number(e, kind, bd.load(bd.gep(base, [k]), align=1), False)
                place = e.at(out, column)
                bd.store(bd.fadd(bd.load(place), number), place)
                if kind == "f":
                    set_bad(Value(e, bd.fadd(bad().ir, bd.fsub(number, number))))

    _for_each_dtype(e, dtype, case)
    return bd.zext(bd.fcmp_unordered("uno", bad().ir, ir.Constant(e.real, 0.0)), I64)


@emitted("i p")
def fetch(e, size, first):
    """Have the cache lines of ``size`` bytes on their way into the second-level cache."""
    first = e.b.bitcast(first, I8.as_pointer())
    with e.loop(size, 64) as at:
        e.prefetch(e.b.gep(first, [at]), write=False)
    e.prefetch(e.b.gep(first, [e.b.sub(size, e.int(1))]), write=False)


@jit
def read_row(kind, count, base, row, step, sample, tables, out):
    """out[:count] = row ``sample`` of X, of whatever kind (codes.py, K_X); tables: any int64 pointer.

    Returns 1 if a number is not finite as a float of the program, else 0.
    """
    bad = 0
    if kind < codes.SPARSE:
        bad = convert_row(kind, count, base + sample * row, step, out)
    elif kind < codes.SHARDED:
        starts, table = address(tables, base), address(tables, step)
        first = get(starts, sample)
        bad = scatter_row(kind - codes.SPARSE, count, get(starts, sample + 1) - first,
                          get(table, codes.A_INDICES) + 4 * first,
                          get(table, codes.A_VALUES) + get(table, codes.A_ITEM) * first, out)  # fmt: skip
    else:
        table = address(tables, step)
        low, high = np.int64(0), get(table, 0)  # the last shard that starts at or before the sample
        shards = shift(table, 1)
        while high - low > 1:
            middle = (low + high) // 2
            if get(shards, codes.SHARD_COLUMNS * middle + codes.D_FIRST) <= sample:
                low = middle
            else:
                high = middle
        shard = shift(shards, codes.SHARD_COLUMNS * low)
        within = sample - get(shard, codes.D_FIRST)
        bad = convert_row(kind - codes.SHARDED, count,
                          get(shard, codes.D_ADDRESS) + within * get(shard, codes.D_ROW),
                          get(shard, codes.D_COL), out)  # fmt: skip
    return bad
