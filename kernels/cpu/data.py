"""Rows of the user's data, in place and of any dtype, into the batch's floats."""

from llvmlite import ir

from .. import codes
from .simd import I8, I64, Value, emitted

_IR = {
    ("f", 4): ir.FloatType(),
    ("f", 8): ir.DoubleType(),
    ("f", 2): ir.IntType(16),
    ("u", 1): ir.IntType(8),
    ("u", 2): ir.IntType(16),
    ("u", 4): ir.IntType(32),
    ("u", 8): ir.IntType(64),
}


@emitted("i i i i p", returns="i")
def convert_row(e, dtype, count, source, step, out):
    """out[c] = the number at address source + c * step (bytes), c < count; dtype: codes.DTYPES.

    Whole vectors where the numbers lie side by side, one by one at the end and for other steps.
    Returns 1 if a number is not finite as a float of the program, else 0.
    """
    bd = e.b
    bad, set_bad = e.cell(e.constant(0.0))  # x - x: 0, or NaN
    last_bad, set_last_bad = e.cell(Value(e, ir.Constant(e.real, 0.0)))

    def half_to_float(h, vector):
        """IEEE half to float32 by its bits: the instruction for it is not everywhere."""
        kinds = [ir.IntType(32), ir.FloatType()]
        integer, real = (ir.VectorType(k, e.lanes) if vector else k for k in kinds)

        def constant(kind, x):
            return ir.Constant(kind, [x] * e.lanes if vector else x)

        wide = bd.zext(h, integer)
        size = bd.and_(wide, constant(integer, 0x7FFF))
        small = bd.icmp_unsigned("<", size, constant(integer, 0x400))  # no leading one
        normal = bd.add(bd.shl(size, constant(integer, 13)), constant(integer, 112 << 23))
        infinite = bd.icmp_unsigned(">=", size, constant(integer, 0x7C00))  # or NaN: the top exponent
        normal = bd.select(infinite, bd.add(normal, constant(integer, 112 << 23)), normal)
        low = bd.bitcast(bd.fmul(bd.uitofp(size, real), constant(real, 2.0**-24)), integer)
        sign = bd.shl(bd.and_(wide, constant(integer, 0x8000)), constant(integer, 16))
        return bd.bitcast(bd.or_(bd.select(small, low, normal), sign), real)

    def number(kind, raw, vector):
        target = e.vector if vector else e.real
        if kind == "f":
            if raw.type == target:
                return raw
            if "i16" in str(raw.type):
                raw = half_to_float(raw, vector)
            return raw if raw.type == target else (bd.fpext if e.is64 else bd.fptrunc)(raw, target)
        return (bd.sitofp if kind == "i" else bd.uitofp)(raw, target)

    def case(kind, size):
        item = _IR["f" if kind == "f" else "u", size]

        def run():
            base = bd.inttoptr(source, I8.as_pointer())
            packed = bd.icmp_signed("==", step, e.int(size))
            whole = bd.select(packed, bd.and_(count, e.int(-e.lanes)), e.int(0))
            with e.loop(whole, e.lanes) as c:
                vector = ir.VectorType(item, e.lanes)
                place = bd.bitcast(bd.gep(base, [bd.mul(c, e.int(size))]), vector.as_pointer())
                x = Value(e, number(kind, bd.load(place, align=1), True))
                e.store(x, out, c)
                if kind == "f":
                    set_bad(bad() + (x - x))
            with e.loop(bd.sub(count, whole)) as rest:
                c = bd.add(whole, rest)
                place = bd.bitcast(bd.gep(base, [bd.mul(c, step)]), item.as_pointer())
                x = number(kind, bd.load(place, align=1), False)
                bd.store(x, e.at(out, c))
                if kind == "f":
                    set_last_bad(Value(e, bd.fadd(last_bad().ir, bd.fsub(x, x))))

        return run

    e.switch(dtype, {code: case(*key) for key, code in codes.DTYPES.items() if key[0] != "b"})
    found = bd.fcmp_unordered("uno", (bad() + e.splat(last_bad().ir)).ir, e.constant(0.0).ir)
    bits = bd.bitcast(found, ir.IntType(e.lanes))
    return bd.zext(bd.icmp_unsigned("!=", bits, ir.Constant(bits.type, 0)), I64)


@emitted("i p")
def fetch(e, size, first):
    """Have the cache lines of ``size`` bytes on their way into the second-level cache."""
    first = e.b.bitcast(first, I8.as_pointer())
    with e.loop(size, 64) as at:
        e.prefetch(e.b.gep(first, [at]), write=False)
    e.prefetch(e.b.gep(first, [e.b.sub(size, e.int(1))]), write=False)
