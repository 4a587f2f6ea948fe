"""The machine's ceiling: a loop of nothing but fused multiply-adds."""

from llvmlite import ir

from .simd import I64, Value, emitted

CHAINS = 12  # sums at once: two FMA units of latency 4 need 8; 12 and two operands fit 16 registers


@emitted("i p")
def multiply_adds(e, passes, numbers):
    """CHAINS vectors, each a = a * numbers[0] + numbers[1], ``passes`` times; their sum to numbers[2]."""
    factor, term = e.splat(e.scalar(numbers, 0)), e.splat(e.scalar(numbers, 1))
    before = e.b.block
    loop, after = e.b.append_basic_block("loop"), e.b.append_basic_block("after")
    e.b.branch(loop)
    e.b.position_at_end(loop)
    count, sums = e.b.phi(I64), [e.b.phi(e.vector) for _ in range(CHAINS)]
    new = [e.fma(Value(e, a), factor, term) for a in sums]
    following = e.b.add(count, e.int(1))
    starts = [ir.Constant(e.vector, [float(k)] * e.lanes) for k in range(CHAINS)]
    for phi, begin, step in (
        (count, e.int(0), following),
        *zip(sums, starts, (n.ir for n in new), strict=True),
    ):
        phi.add_incoming(begin, before)
        phi.add_incoming(step, loop)
    e.b.cbranch(e.b.icmp_signed("<", following, passes), loop, after)
    e.b.position_at_end(after)
    total = new[0]
    for value in new[1:]:
        total = total + value
    e.b.store(e.first(total), e.at(numbers, 2))
