"""A team of threads inside one parallel region: who is there, barriers, denormals off, overflow noticed.

One region runs a whole window of steps, so a region may cost 2 us (OpenMP) or 150 us (workqueue)
and no step notices. Inside, threads meet at a spinning barrier of about 0.1 us. That is safe only if
all of them run at once, which no threading layer promises (OMP_DYNAMIC, OMP_THREAD_LIMIT, tbb): so
the team first gathers; if someone does not come in time, whoever was first does all the work alone,
with the same bits, and the late ones find nothing to do.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .. import codes
from ..codes import Y_ARRIVED, Y_BROKEN, Y_DECIDED, Y_GENERATION, Y_PROCESSORS, Y_RAISED, Y_WAITING
from ..jit import jit
from .simd import I8, I32, I64, get, put

GATHER_YIELDS = 20_000  # yields to wait for the others, after 0.1 ms of spinning: some 5 ms


@intrinsic
def atomic_add(typingctx, base, index, value):
    """Add to base[index]; returns what was there."""

    def codegen(context, builder, sig, args):
        place = builder.gep(args[0], [args[1]])
        return builder.atomic_rmw("add", place, args[2], "seq_cst")

    return types.int64(base, types.int64, types.int64), codegen


@intrinsic
def atomic_get(typingctx, base, index):
    def codegen(context, builder, sig, args):
        place = builder.gep(args[0], [args[1]])
        return builder.load_atomic(place, "acquire", 8)

    return types.int64(base, types.int64), codegen


@intrinsic
def atomic_put(typingctx, base, index, value):
    def codegen(context, builder, sig, args):
        place = builder.gep(args[0], [args[1]])
        builder.store_atomic(args[2], place, "release", 8)
        return context.get_dummy_value()

    return types.void(base, types.int64, types.int64), codegen


@intrinsic
def atomic_claim(typingctx, base, index, value):
    """Put value where 0 is; returns what was there (0: the claim held)."""

    def codegen(context, builder, sig, args):
        place = builder.gep(args[0], [args[1]])
        pair = builder.cmpxchg(place, ir.Constant(I64, 0), args[2], "seq_cst", "seq_cst")
        return builder.extract_value(pair, 0)

    return types.int64(base, types.int64, types.int64), codegen


def _machine(context):
    triple = context.codegen()._llvm_module.triple
    if triple.startswith(("x86_64", "i686", "i386")):
        return "x86", triple
    return ("arm" if triple.startswith(("aarch64", "arm64")) else "other"), triple


@intrinsic
def pause(typingctx):
    """Tell the core that this is a spin loop."""

    def codegen(context, builder, sig, args):
        machine, _ = _machine(context)
        if machine == "x86":
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])
        elif machine == "arm":
            kind = ir.FunctionType(ir.VoidType(), [I32])
            function = cgutils.get_or_insert_function(builder.module, kind, "llvm.aarch64.hint")
            builder.call(function, [ir.Constant(I32, 1)])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def give_way(typingctx):
    """Let another thread have the core."""

    def codegen(context, builder, sig, args):
        name = "SwitchToThread" if "windows" in _machine(context)[1] else "sched_yield"
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(I32, []), name)
        builder.call(function, [])
        return context.get_dummy_value()

    return types.void(), codegen


def _x86_register(builder):
    """(read, write) of x86's word of float modes and flags."""
    slot = cgutils.alloca_once(builder, I32)
    raw = builder.bitcast(slot, I8.as_pointer())
    kind = ir.FunctionType(ir.VoidType(), [raw.type])
    move = {n: cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.sse.{n}mxcsr")
            for n in ("st", "ld")}  # fmt: skip

    def read():
        builder.call(move["st"], [raw])
        return builder.load(slot)

    def write(word):
        builder.store(word, slot)
        builder.call(move["ld"], [raw])

    return read, write


def _arm_register(builder, name):
    """(read, write) of AArch64's fpcr, modes, or fpsr, flags."""
    kinds = {"get": ir.FunctionType(I64, []), "set": ir.FunctionType(ir.VoidType(), [I64])}
    get, put = (
        cgutils.get_or_insert_function(builder.module, kind, f"llvm.aarch64.{verb}.{name}")
        for verb, kind in kinds.items()
    )
    return lambda: builder.call(get, []), lambda word: builder.call(put, [word])


@intrinsic
def float_mode(typingctx, flush, previous):
    """Flush denormals to zero (flush != 0), or set the mode back; returns the mode before.

    Adam's moments of dead units decay into denormals, at 100 cycles each.
    """

    def codegen(context, builder, sig, args):
        machine, _ = _machine(context)
        if machine == "other":
            return ir.Constant(I64, 0)
        wide, flags = (I32, 0x8040) if machine == "x86" else (I64, 1 << 24)
        read, write = _x86_register(builder) if machine == "x86" else _arm_register(builder, "fpcr")
        before = read()
        flushed = builder.or_(before, ir.Constant(wide, flags))
        given = args[1] if wide is I64 else builder.trunc(args[1], I32)
        write(builder.select(builder.icmp_signed("!=", args[0], ir.Constant(I64, 0)), flushed, given))
        return before if wide is I64 else builder.zext(before, I64)

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def overflowed(typingctx):
    """Not 0 if this thread's arithmetic has made an inf or a NaN of finite numbers since it was last asked.

    The core itself notes it (IEEE 754's flags of overflow, division by zero, invalid operation), so nothing
    is spent on looking. What it tells may have been in padding, or of a case that was not taken. Where the
    core cannot be asked: 1.
    """

    def codegen(context, builder, sig, args):
        machine, _ = _machine(context)
        if machine == "other":
            return ir.Constant(I64, 1)
        wide, bits = (I32, 0b1101) if machine == "x86" else (I64, 0b111)
        read, write = _x86_register(builder) if machine == "x86" else _arm_register(builder, "fpsr")
        word = read()
        raised = builder.and_(word, ir.Constant(wide, bits))
        with builder.if_then(builder.icmp_unsigned("!=", raised, ir.Constant(wide, 0)), likely=False):
            write(builder.and_(word, ir.Constant(wide, ~bits)))
        return raised if wide is I64 else builder.zext(raised, I64)

    return types.int64(), codegen


def _function(builder, name, result, *arguments):
    kind = ir.FunctionType(result, arguments)
    return cgutils.get_or_insert_function(builder.module, kind, name)


@intrinsic
def atomic_or(typingctx, base, index, value):
    """Set bits of base[index]; returns what was there."""

    def codegen(context, builder, sig, args):
        return builder.atomic_rmw("or", builder.gep(args[0], [args[1]]), args[2], "seq_cst")

    return types.int64(base, types.int64, types.int64), codegen


@intrinsic
def processor(typingctx):
    """Number of the processor that this thread runs on; -1 where the system does not tell."""

    def codegen(context, builder, sig, args):
        if "linux" not in _machine(context)[1]:
            return ir.Constant(I64, -1)
        return builder.sext(builder.call(_function(builder, "sched_getcpu", I32), []), I64)

    return types.int64(), codegen


@intrinsic
def move_off(typingctx, taken):
    """Move this thread to a processor outside the bit mask ``taken`` if it may run on one.

    Its affinity is narrowed, which moves it at once, and set back.
    """

    def codegen(context, builder, sig, args):
        if "linux" not in _machine(context)[1]:
            return context.get_dummy_value()
        words = ir.ArrayType(I64, 16)  # 1,024 processors
        allowed, narrowed = cgutils.alloca_once(builder, words), cgutils.alloca_once(builder, words)
        first = [ir.Constant(I32, 0), ir.Constant(I32, 0)]
        size, me = ir.Constant(I64, 128), ir.Constant(I32, 0)
        get_mask, set_mask = (
            _function(builder, f"sched_{verb}affinity", I32, I32, I64, words.as_pointer())
            for verb in ("get", "set")
        )
        known = builder.call(get_mask, [me, size, allowed])
        with builder.if_then(builder.icmp_signed(">=", known, me)):
            builder.store(builder.load(allowed), narrowed)
            word = builder.gep(narrowed, first)
            left = builder.and_(builder.load(word), builder.not_(args[0]))
            builder.store(left, word)
            with builder.if_then(builder.icmp_signed("!=", left, ir.Constant(I64, 0))):
                builder.call(set_mask, [me, size, narrowed])
                builder.call(set_mask, [me, size, allowed])
        return context.get_dummy_value()

    return types.void(types.int64), codegen


@jit
def spread(sync):
    """Leave the processor if one of the team is already on it.

    Systems like to wake a thread where its waker runs. Both then take turns of milliseconds at a
    barrier of microseconds, until the system notices: a step took 200 us instead of 20.
    """
    here = processor()
    if here < 0 or here > 62:
        return
    taken = atomic_or(sync, Y_PROCESSORS, 1 << here)
    if taken & (1 << here):
        move_off(taken)
        here = processor()
        if here <= 62:
            atomic_or(sync, Y_PROCESSORS, 1 << here)


@intrinsic
def ticks(typingctx):
    """The core's clock: 20 cycles to read; its rate is whatever the machine says."""

    def codegen(context, builder, sig, args):
        machine, _ = _machine(context)
        # AArch64's cycle counter is closed to users; x86 has no other
        name = "llvm.readsteadycounter" if machine == "arm" else "llvm.readcyclecounter"
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(I64, []), name)
        return builder.call(function, [])

    return types.int64(), codegen


@jit
def lap(trace, place):
    """Add the ticks since the last lap to ``place``; a trace at T_LAST 0 is off."""
    last = get(trace, codes.T_LAST)
    if last != 0:
        now = ticks()
        put(trace, place, get(trace, place) + now - last)
        put(trace, codes.T_LAST, now)


@jit
def barrier(sync, threads):
    """Wait until all threads of the team are here; what each wrote before, all see after."""
    if threads == 1:
        return
    generation = atomic_get(sync, Y_GENERATION)
    if atomic_add(sync, Y_WAITING, 1) == threads - 1:
        atomic_put(sync, Y_WAITING, 0)
        atomic_put(sync, Y_GENERATION, generation + 1)
        return
    spins = 0
    while atomic_get(sync, Y_GENERATION) == generation:
        spins += 1
        if spins > 2000:  # some 50 us: the other one may want this core
            give_way()
        elif spins > 50:
            pause()


@jit
def note_overflow(sync, half):
    """Before a barrier: tell the others if this thread's arithmetic has overflowed in this half of a step."""
    if overflowed() != 0:
        put(sync, Y_RAISED + half, 1)


@jit
def any_broken(crew, half, broken):
    """Whether one of the team has found ``broken`` numbers; all of it comes here, where Y_RAISED is set."""
    sync = crew.sync
    if broken:
        atomic_add(sync, Y_BROKEN, 1)
    barrier(sync, crew.threads)
    found = get(sync, Y_BROKEN)
    barrier(sync, crew.threads)
    if crew.thread == 0:
        put(sync, Y_RAISED + half, 0)
        put(sync, Y_BROKEN, 0)
    barrier(sync, crew.threads)
    return found > 0


@jit
def gather_team(sync, threads):
    """Threads in the team this caller belongs to: ``threads``, 1 (do all alone), or 0 (do nothing)."""
    spread(sync)
    if atomic_add(sync, Y_ARRIVED, 1) == threads - 1:
        before = atomic_claim(sync, Y_DECIDED, threads)
        return threads if before == 0 else 0
    for spins in range(2000 + GATHER_YIELDS):
        decided = atomic_get(sync, Y_DECIDED)
        if decided != 0:
            return threads if decided == threads else 0
        if spins < 2000:
            pause()
        else:
            give_way()
    before = atomic_claim(sync, Y_DECIDED, 1)
    if before == 0:
        return 1
    return threads if before == threads else 0
