"""Vectors in Numba: functions written as LLVM IR, for any vector width, and the intrinsics around them.

Why IR: LLVM keeps explicit vectors in registers whatever it thinks of aliasing or cost, so a tile
runs at the FMA peak and an epilogue never falls back to scalars. One source gives AVX-512, AVX2,
SSE and NEON: only the number of lanes differs (``target_of``).

``emitted("i p p")`` turns a Python function that writes IR through an ``Emitter`` into a function
that kernels call: i is an int64, p a pointer to the program's floats, r one such float, and the other letters
are records, see LEAF_RECORDS.
"""

import inspect
from contextlib import contextmanager
from typing import NamedTuple

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..operators import Maths, Operators
from .records import LEAF_RECORDS

I1, I8, I32, I64 = ir.IntType(1), ir.IntType(8), ir.IntType(32), ir.IntType(64)


class Target(NamedTuple):
    """What the vectors of a machine are: their bytes, how many registers, fused multiply-add."""

    bytes: int
    registers: int
    fma: bool  # else llvm.fma would be a slow library call


def target_of(triple, features):
    """The Target of an LLVM triple and feature string."""
    has = set(features.split(","))
    if triple.startswith(("aarch64", "arm64")):
        return Target(16, 32, True)
    if "+avx512f" in has:
        return Target(64, 32, True)
    if "+avx2" in has and "+fma" in has:
        return Target(32, 16, True)
    return Target(16, 16, False)


def host_target():
    """The Target that this process compiles for."""
    from numba.core.registry import cpu_target

    return _target(cpu_target.target_context)


# llvmlite's names of kernels/operators.py's operations: on floats and masks, on integers
COMPARED = {"less": "<", "greater": ">", "equal": "=="}
INSTRUCTIONS = {"add": "fadd", "subtract": "fsub", "multiply": "fmul", "divide": "fdiv", "negative": "fneg",
                "and": "and_", "or": "or_", "xor": "xor", "not": "not_"}  # fmt: skip
WHOLE = {"add": "add", "subtract": "sub", "multiply": "mul", "xor": "xor", "shift": "lshr"}


class Value(Operators):
    """A vector or scalar under construction: arithmetic on it emits instructions."""

    __slots__ = ("e", "ir")

    def __init__(self, emitter, value):
        self.e, self.ir = emitter, value

    def apply(self, name, *values):
        return self.e.apply(name, *values)


class Integers(Operators):
    """Integer lanes (or one integer) beside Value, for bit tricks only."""

    __slots__ = ("e", "ir")

    def __init__(self, emitter, value):
        self.e, self.ir = emitter, value

    def _lift(self, x):
        if isinstance(x, Integers):
            return x.ir
        single = isinstance(self.ir.type, ir.IntType)
        size = (self.ir.type if single else self.ir.type.element).width
        signed = x - (1 << size) if x >> (size - 1) else x
        return ir.Constant(self.ir.type, signed if single else [signed] * self.e.lanes)

    def apply(self, name, x, y):
        return Integers(self.e, getattr(self.e.b, WHOLE[name])(self._lift(x), self._lift(y)))


class Emitter(Maths):
    """Writes the body of one LLVM function over vectors of ``lanes`` floats. The maths of formulas.py."""

    def __init__(self, module, builder, real, target):
        self.module, self.b, self.real, self.target = module, builder, real, target
        self.is64 = isinstance(real, ir.DoubleType)
        self.size = 8 if self.is64 else 4
        self.lanes = lanes = target.bytes // self.size
        self.bits_type = I64 if self.is64 else I32
        self.vector = ir.VectorType(real, lanes)
        self.integers = ir.VectorType(self.bits_type, lanes)
        self.suffix = f"v{lanes}f{64 if self.is64 else 32}"

    def wider(self, times):
        """The same place in the code, with vectors of ``times`` registers: LLVM cuts them up, op by op."""
        return Emitter(self.module, self.b, self.real, self.target._replace(bytes=times * self.target.bytes))

    # --- values

    def constant(self, x):
        return Value(self, ir.Constant(self.vector, [float(x)] * self.lanes))

    def lift(self, x):
        return x if isinstance(x, Value) else self.constant(x)

    def apply(self, name, *values):
        values = [self.lift(v).ir for v in values]
        if name in COMPARED:
            return Value(self, self.b.fcmp_ordered(COMPARED[name], *values))
        return Value(self, getattr(self.b, INSTRUCTIONS[name])(*values))

    def call(self, name, *args, result=None):
        result = result or self.vector
        kind = ir.FunctionType(result, [a.type for a in args])
        return self.b.call(cgutils.get_or_insert_function(self.module, kind, name), args)

    def unary(self, name, x):
        return Value(self, self.call(f"llvm.{name}.{self.suffix}", self.lift(x).ir))

    # --- the maths of formulas.py

    def fma(self, x, y, z):
        x, y, z = (self.lift(v).ir for v in (x, y, z))
        if self.target.fma:
            return Value(self, self.call(f"llvm.fma.{self.suffix}", x, y, z))
        return Value(self, self.b.fadd(self.b.fmul(x, y), z))

    def select(self, mask, x, y):
        return Value(self, self.b.select(mask.ir, self.lift(x).ir, self.lift(y).ir))

    def abs(self, x):
        return self.unary("fabs", x)

    def sqrt(self, x):
        return self.unary("sqrt", x)

    def round(self, x):
        """To the nearest integer, ties to even."""
        return self.unary("rint", x)

    def copysign(self, x, sign):
        return Value(self, self.call(f"llvm.copysign.{self.suffix}", x.ir, sign.ir))

    def bits(self, x):
        return Integers(self, self.b.bitcast(x.ir, self.integers))

    def from_bits(self, n):
        return Value(self, self.b.bitcast(n.ir, self.vector))

    def lane_integers(self, n):
        return ir.Constant(self.integers, [n] * self.lanes)

    def shift_right(self, n, by):
        return Integers(self, self.b.lshr(n.ir, self.lane_integers(by)))

    def pow2(self, n):
        """2**n for a vector of whole numbers in the exponent's range."""
        bias, mantissa = (1023, 52) if self.is64 else (127, 23)
        whole = self.b.fptosi(n.ir, self.integers)
        raised = self.b.shl(self.b.add(whole, self.lane_integers(bias)), self.lane_integers(mantissa))
        return Value(self, self.b.bitcast(raised, self.vector))

    def split(self, x):
        """x = mantissa * 2**exponent, mantissa in [sqrt(1/2), sqrt(2)): as two vectors."""
        # subtracting sqrt(1/2)'s bits makes the exponent field round at the right place
        half_root, mantissa = (0x3FE6A09E667F3BCD, 52) if self.is64 else (0x3F3504F3, 23)
        bits = self.b.bitcast(x.ir, self.integers)
        exponent = self.b.ashr(self.b.sub(bits, self.lane_integers(half_root)), self.lane_integers(mantissa))
        scaled = self.b.sub(bits, self.b.shl(exponent, self.lane_integers(mantissa)))
        return Value(self, self.b.bitcast(scaled, self.vector)), Value(
            self, self.b.sitofp(exponent, self.vector)
        )

    # --- memory and lanes

    def at(self, pointer, offset):
        """pointer + offset elements; the offset a Python int or an i64."""
        return self.b.gep(pointer, [self.int(offset)])

    def int(self, n):
        return ir.Constant(I64, n) if isinstance(n, int) else n

    def least(self, n, most):
        """The smaller of an i64 and an int."""
        return self.b.select(self.b.icmp_signed("<", n, self.int(most)), n, self.int(most))

    def load(self, pointer, offset=0):
        address = self.b.bitcast(self.at(pointer, offset), self.vector.as_pointer())
        return Value(self, self.b.load(address, align=self.size))

    def store(self, value, pointer, offset=0):
        address = self.b.bitcast(self.at(pointer, offset), self.vector.as_pointer())
        self.b.store(self.lift(value).ir, address, align=self.size)

    def prefetch(self, pointer, offset=0, write=True):
        """Have the cache line on its way, to be written or to be read."""
        address = self.b.bitcast(self.at(pointer, offset), I8.as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [address.type, I32, I32, I32])
        function = cgutils.get_or_insert_function(self.module, kind, "llvm.prefetch.p0")
        self.b.call(function, [address, *(ir.Constant(I32, n) for n in (int(write), 3, 1))])  # keep, data

    def scalar(self, pointer, offset=0):
        return self.b.load(self.at(pointer, offset))

    def splat(self, x):
        undefined = ir.Constant(self.vector, ir.Undefined)
        first = self.b.insert_element(undefined, x, ir.Constant(I32, 0))
        return Value(self, self.shuffle(first, undefined, [0] * self.lanes))

    def shuffle(self, x, y, lanes):
        return self.b.shuffle_vector(x, y, ir.Constant(ir.VectorType(I32, len(lanes)), lanes))

    def word(self, x):
        """The low 32 bits of an i64, as one of Integers."""
        return Integers(self, self.b.trunc(x, I32))

    def words(self, x):
        """A word in every lane."""
        undefined = ir.Constant(ir.VectorType(I32, self.lanes), ir.Undefined)
        first = self.b.insert_element(undefined, x.ir, ir.Constant(I32, 0))
        return Integers(self, self.shuffle(first, undefined, [0] * self.lanes))

    def lane_words(self):
        """0, 1, 2, ... as 32-bit Integers."""
        return Integers(self, ir.Constant(ir.VectorType(I32, self.lanes), list(range(self.lanes))))

    def first(self, x):
        """Lane 0 as a scalar."""
        return self.b.extract_element(x.ir, ir.Constant(I32, 0))

    def fold(self, x, combine):
        """All lanes combined by halves, the result in every lane: one fixed order."""
        for lanes in self.halves():
            x = combine(x, Value(self, self.shuffle(x.ir, x.ir, lanes)))
        return x

    def halves(self):
        """For each step of a fold, the lane that every lane meets."""
        step = self.lanes // 2
        while step:
            yield [i ^ step for i in range(self.lanes)]
            step //= 2

    def sum(self, x):
        return self.fold(x, lambda a, b: a + b)

    def lane_numbers(self):
        return Value(self, ir.Constant(self.vector, [float(i) for i in range(self.lanes)]))

    def lanes_below(self, count):
        """Mask of the lanes whose number is below an i64 count."""
        return self.lane_numbers() < self.splat(self.b.sitofp(count, self.real))

    def masked_store(self, value, pointer, mask):
        address = self.b.bitcast(pointer, self.vector.as_pointer())
        args = (value.ir, address, ir.Constant(I32, self.size), mask.ir)
        self.call(f"llvm.masked.store.{self.suffix}.p0", *args, result=ir.VoidType())

    def masked_load(self, pointer, mask):
        """0 where the mask is not set; nothing is read there."""
        address = self.b.bitcast(pointer, self.vector.as_pointer())
        args = (address, ir.Constant(I32, self.size), mask.ir, self.constant(0.0).ir)
        return Value(self, self.call(f"llvm.masked.load.{self.suffix}.p0", *args))

    def count(self, mask):
        """How many lanes of a mask are set, an i64."""
        bits = self.b.zext(self.b.bitcast(mask.ir, ir.IntType(self.lanes)), I64)
        return self.call("llvm.ctpop.i64", bits, result=I64)

    # --- control

    @contextmanager
    def loop(self, count, step=1):
        """for i in range(0, count, step), count an i64 or an int; yields i."""
        with cgutils.for_range_slice(self.b, self.int(0), self.int(count), self.int(step), inc=True) as (
            i,
            _,
        ):
            yield i

    def cell(self, value):
        """A mutable local: (get, set); registers after LLVM's mem2reg."""
        slot = self.room(value.ir.type)
        self.b.store(value.ir, slot)
        return (
            lambda: Value(self, self.b.load(slot)),
            lambda new: self.b.store(self.lift(new).ir, slot),
        )

    def room(self, kind, count=1):
        """A pointer to ``count`` places on the stack."""
        with self.b.goto_entry_block():
            return self.b.alloca(kind, count)

    def call_address(self, number, kinds, returns, args):
        """Call the function, of an emitted one's kinds, whose address is the i64 ``number``."""
        kind = leaf_type(kinds, returns, self.real)
        flat = [x for a in args for x in (a if isinstance(a, tuple) else (a,))]
        return self.b.call(self.b.inttoptr(number, kind.as_pointer()), flat)

    def switch(self, code, cases, other=None):
        """Run the body of the case that equals code; no case, other() or nothing."""
        done = self.b.append_basic_block("done")
        rest = self.b.append_basic_block("other") if other else done
        choice = self.b.switch(code, rest)
        if other:
            with self.b.goto_block(rest):
                other()
                self.b.branch(done)
        for value, body in cases.items():
            block = self.b.append_basic_block(f"case{value}")
            choice.add_case(ir.Constant(code.type, value), block)
            with self.b.goto_block(block):
                self.b.position_at_end(block)
                body()
                if not self.b.block.is_terminated:
                    self.b.branch(done)
        self.b.position_at_end(done)


def _target(context):
    """The Target that a context compiles for (NUMBA_CPU_NAME and NUMBA_CPU_FEATURES count)."""
    codegen = context.codegen()
    return target_of(codegen._llvm_module.triple, codegen._tm_features)


LEAVES = {}  # name -> (write, kinds, returns): every function that is written as IR


def symbol(name, dtype):
    """What a function that is compiled apart is called in its callers' modules."""
    return f"fastbp.{name}.{dtype}"


def leaf_type(kinds, returns, real):
    """The LLVM type of a function of ``emitted``'s kinds: records are taken apart."""
    llvm = {"i": I64, "p": real.as_pointer(), "r": real}
    flat = [k for kind in kinds.split() for k in (LEAF_RECORDS[kind][1] if kind in LEAF_RECORDS else kind)]
    return ir.FunctionType(I64 if returns else ir.VoidType(), [llvm[k] for k in flat])


def leaf_arguments(kinds, values):
    """The arguments of a ``write`` of these kinds, from those of its LLVM function: records put together."""
    values = iter(values)
    for kind in kinds.split():
        if kind in LEAF_RECORDS:
            record, fields = LEAF_RECORDS[kind]
            yield record(*(next(values) for _ in fields))
        else:
            yield next(values)


def _numba_types(kinds, dtype):
    """Of a function's arguments."""
    plain = {"i": types.int64, "p": types.CPointer(dtype), "r": dtype}
    for kind in kinds.split():
        if kind in LEAF_RECORDS:
            record, fields = LEAF_RECORDS[kind]
            yield types.BaseTuple.from_types([plain[k] for k in fields], record)
        else:
            yield plain[kind]


def _dtype(kinds, args):
    """The program's floats, by the first pointer among the arguments' types."""
    for kind, arg in zip(kinds.split(), args, strict=True):
        if LEAF_RECORDS.get(kind, (None, kind))[1][0] == "p":
            return (arg if kind == "p" else arg.types[0]).dtype
    raise TypeError("a function written as IR takes a pointer: it tells the program's floats")


def emitted(kinds, returns=None):
    """Decorator: write(e, *arguments) emits IR; the result is callable from kernels.

    ``returns``: None, or "i" for an int64 that ``write`` gives back. A caller's module only declares
    the function: all of them are compiled in one module of their own (``emit_leaves``) and bound by
    name when that is loaded. Compiled into each caller all would take four times as long.
    """

    def decorate(write):
        names = list(inspect.signature(write).parameters)[1:]
        if len(names) != len(kinds.split()):
            raise TypeError(f"{write.__name__}: {len(names)} arguments, {len(kinds.split())} kinds")
        LEAVES[write.__name__] = (write, kinds, returns)

        def definition(typingctx, *args):
            dtype = _dtype(kinds, args)
            signature = (types.int64 if returns else types.void)(*_numba_types(kinds, dtype))

            def codegen(context, builder, sig, values):
                flat = []
                for kind, value in zip(kinds.split(), values, strict=True):
                    count = len(LEAF_RECORDS[kind][1]) if kind in LEAF_RECORDS else 0
                    flat += [builder.extract_value(value, i) for i in range(count)] or [value]
                function = cgutils.get_or_insert_function(
                    builder.module,
                    leaf_type(kinds, returns, context.get_value_type(dtype)),
                    symbol(write.__name__, dtype),
                )
                result = builder.call(function, flat)
                return result if returns else context.get_dummy_value()

            return signature, codegen

        definition.__name__ = definition.__qualname__ = write.__name__
        definition.__doc__ = write.__doc__
        parameters = [
            inspect.Parameter(n, inspect.Parameter.POSITIONAL_OR_KEYWORD) for n in ("typingctx", *names)
        ]
        definition.__signature__ = inspect.Signature(parameters)
        return intrinsic(definition)

    return decorate


def emitting(leaves):
    """An intrinsic (table, like) that compiles leaves, a part of LEAVES, for ``like``'s dtype.

    Their addresses go to table, by name.
    """

    def emit(typingctx, table, like):
        def codegen(context, builder, sig, args):
            dtype = sig.args[1].dtype
            real, target = context.get_value_type(dtype), _target(context)
            data = context.make_array(sig.args[0])(context, builder, args[0]).data
            for place, (name, (write, kinds, returns)) in enumerate(sorted(leaves.items())):
                function = ir.Function(
                    builder.module, leaf_type(kinds, returns, real), symbol(name, dtype) + ".code"
                )
                function.linkage = "internal"
                function.attributes.add("noinline")
                function.attributes.add("nounwind")
                body = ir.IRBuilder(function.append_basic_block("entry"))
                emitter = Emitter(builder.module, body, real, target)
                result = write(emitter, *leaf_arguments(kinds, function.args))
                body.ret(result) if returns else body.ret_void()
                slot = builder.gep(data, [ir.Constant(I64, place)])
                builder.store(builder.ptrtoint(function, I64), slot)
            return context.get_dummy_value()

        return types.void(table, like), codegen

    return intrinsic(emit)


emit_leaves = emitting(LEAVES)


def bind_leaves(addresses, dtype):
    """Give the functions of LEAVES their names in this process: before any caller is loaded."""
    for name, place in zip(sorted(LEAVES), addresses, strict=True):
        binding.add_symbol(symbol(name, dtype), int(place))


# --- pointers: an arena's address, moved and read without reference counts or bounds


@intrinsic
def pointer(typingctx, array):
    """The address of an array's first element."""

    def codegen(context, builder, sig, args):
        return context.make_array(sig.args[0])(context, builder, args[0]).data

    return types.CPointer(array.dtype)(array), codegen


@intrinsic
def shift(typingctx, base, offset):
    """base + offset elements."""

    def codegen(context, builder, sig, args):
        return builder.gep(args[0], [args[1]])

    return base(base, types.int64), codegen


@intrinsic
def distance(typingctx, start, end):
    """Elements from one pointer to another of its type."""

    def codegen(context, builder, sig, args):
        first, last = (builder.ptrtoint(p, I64) for p in args)
        size = ir.Constant(I64, sig.args[0].dtype.bitwidth // 8)
        return builder.sdiv(builder.sub(last, first), size)

    return types.int64(start, end), codegen


@intrinsic
def address(typingctx, like, number):
    """The integer ``number`` as a pointer of ``like``'s type."""

    def codegen(context, builder, sig, args):
        return builder.inttoptr(args[1], args[0].type)

    return like(like, types.int64), codegen


@intrinsic
def get(typingctx, base, offset):
    """base[offset]"""

    def codegen(context, builder, sig, args):
        return builder.load(builder.gep(args[0], [args[1]]))

    return base.dtype(base, types.int64), codegen


@intrinsic
def put(typingctx, base, offset, value):
    """base[offset] = value"""

    def codegen(context, builder, sig, args):
        builder.store(args[2], builder.gep(args[0], [args[1]]))
        return context.get_dummy_value()

    return types.void(base, types.int64, base.dtype), codegen


@intrinsic
def lanes_of(typingctx, base):
    """Number of floats in a vector on this machine."""

    def codegen(context, builder, sig, args):
        return ir.Constant(I64, _target(context).bytes // (8 if base.dtype == types.float64 else 4))

    return types.int64(base), codegen


@intrinsic
def item_of(typingctx, base):
    """Bytes of a float."""

    def codegen(context, builder, sig, args):
        return ir.Constant(I64, base.dtype.bitwidth // 8)

    return types.int64(base), codegen
