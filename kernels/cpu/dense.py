"""The dense layer: forward, backward and update as register tiles with everything else in their epilogues.

Floor, for B rows, I in, O out: each of the three products is B*I*O fused multiply-adds; a core does
2 vectors of them a cycle (1 on older ones). The update moves I*O*(1 + slots) floats in and out.

    tile (r rows, v vectors) = sum over k of  A[:, k]  x  B[k, :]

A's element is broadcast, B's row loaded as vectors, every accumulator stays in a register for the
whole of k. Each output is one chain of fused multiply-adds in the order of k whatever the tile, so
the result does not depend on how the work is cut: not on threads, nor on the batch around a row. A gradient,
whose k is the batch, is a chain for each LONG rows, and these are added: one of millions would lose count.
"""

import functools

import numpy as np
from llvmlite import ir

from .. import codes, formulas
from ..jit import jit
from .plan import cut, rows_from
from .records import Ahead, Matrix, Slice, Strided, Upcoming
from .simd import I1, I64, Value, distance, emitted, lanes_of, shift

# rows of a tile by its vectors, for 32 and for 16 vector registers. Wide tiles read whole runs of
# B and few rows of A: on AVX-512, 6 x 4 ran at 0.8-1.0 of the peak where 12 x 2 ran at 0.6-0.8
# (row-major operands, K of 128 to 1024).
DEPTH = 128  # terms of a sum at a time: a block of B (32 KiB) stays in L1 while all rows pass it
TALL = 48  # rows of weights that share a block of deltas: their sums take 12 KiB
CHAINED = 1024  # squares that are added one by one; sums of so many are added then
CLOSE = 1 << 17  # deltas that stay in L2 beside all else
FAR = 1 << 16  # weights of a layer from which the next panel of them is asked for early
WHOLE, FIRST, MORE, LAST = range(4)  # which part of a batch a gradient is summed over
EMPTY_LANES = 1.5  # lanes an output from which the gradient is made transposed
HEIGHTS = {32: {1: 14, 2: 12, 3: 8, 4: 6}, 16: {1: 12, 2: 6}}


def _heights(e):
    return HEIGHTS[e.target.registers]


@emitted("p i", returns="i")
def tile_height(e, like, vectors):
    """Most rows of a tile that is ``vectors`` wide; for 0: most vectors of a tile."""
    heights = _heights(e)
    result = e.int(max(heights))
    for v, rows in heights.items():
        result = e.b.select(e.b.icmp_signed("==", vectors, e.int(v)), e.int(rows), result)
    return result


@emitted("i i i s m m m a")
def tile(e, rows, vectors, depth, a, b, start, out, ahead):
    """out[r, :] = start[r, :] + sum over k < depth of a[r, k] * b[k, :]; depth >= 1.

    b, start, out: rows of vectors; start.stride 0 repeats one row. While it runs it fetches what comes next,
    of the tile's shape: see Ahead.
    """
    cases = {}
    for v, height in _heights(e).items():
        for r in range(1, height + 1):
            cases[16 * v + r] = lambda r=r, v=v: _tile_loop(e, (r, v), depth, a, b, start, out, ahead)
    e.switch(e.b.add(e.b.mul(vectors, e.int(16)), rows), cases)


def _tile_loop(e, shape, depth, a, b, start, out, ahead):
    rows, vectors = shape
    bd, tiles = e.b, [(r, v) for r in range(rows) for v in range(vectors)]
    row_offset = [bd.mul(a.row, e.int(r)) for r in range(rows)]
    first = {
        (r, v): e.load(start.pointer, bd.add(bd.mul(start.stride, e.int(r)), e.int(v * e.lanes)))
        for r, v in tiles
    }
    # The sum over k runs in parts; before each, half of an array's rows are asked for: at most
    # 12 lines, less than a core can wait for at once (16), so the loop itself never waits.
    half = (rows + 1) // 2
    parts = bd.mul(ahead.arrays, e.int(2))
    few = bd.or_(bd.icmp_signed("<", depth, parts), bd.icmp_signed("==", parts, e.int(0)))
    parts = bd.select(few, e.int(1), parts)
    each = bd.udiv(depth, parts)

    before = bd.block
    part_start, loop, part_end, after = (
        bd.append_basic_block(name) for name in ("part", "k", "next", "store")
    )
    bd.branch(part_start)
    bd.position_at_end(part_start)
    place = a.pointer.type
    part, a_part, b_part, fetch = bd.phi(I64), bd.phi(place), bd.phi(place), bd.phi(place)
    carried = {rv: bd.phi(e.vector) for rv in tiles}
    for wanted, writes in ((1, True), (0, False)):
        mine = bd.icmp_signed("==", ahead.writes, e.int(wanted))
        with bd.if_then(bd.and_(mine, bd.icmp_signed("!=", ahead.arrays, e.int(0)))):
            for r in range(half):
                for v in range(vectors):
                    e.prefetch(fetch, bd.add(bd.mul(ahead.stride, e.int(r)), e.int(v * e.lanes)), writes)
    part_next = bd.add(part, e.int(1))
    rest = bd.sub(depth, bd.mul(each, part))
    count = bd.select(bd.icmp_signed("==", part_next, parts), rest, each)
    lower = bd.mul(ahead.stride, e.int(half))
    upper = bd.sub(bd.select(bd.icmp_signed("==", part, e.int(1)), ahead.first, ahead.jump), lower)
    odd = bd.trunc(part, I1)
    fetch_next = e.at(fetch, bd.select(odd, upper, lower))
    entry = bd.block
    bd.branch(loop)

    bd.position_at_end(loop)
    k, a_k, b_k = bd.phi(I64), bd.phi(place), bd.phi(place)
    total = {rv: bd.phi(e.vector) for rv in tiles}
    b_row_now = [e.load(b_k, v * e.lanes) for v in range(vectors)]
    new = {}
    for r in range(rows):
        a_now = e.splat(e.scalar(a_k, row_offset[r]))
        for v in range(vectors):
            new[r, v] = e.fma(a_now, b_row_now[v], Value(e, total[r, v])).ir
    k_next, a_next, b_next = bd.add(k, e.int(1)), e.at(a_k, a.column), e.at(b_k, b.stride)
    bd.cbranch(bd.icmp_signed("<", k_next, count), loop, part_end)

    bd.position_at_end(part_end)
    bd.cbranch(bd.icmp_signed("<", part_next, parts), part_start, after)
    bd.position_at_end(after)
    for r, v in tiles:
        e.store(Value(e, new[r, v]), out.pointer, bd.add(bd.mul(out.stride, e.int(r)), e.int(v * e.lanes)))

    for phi, begin, step in (
        (part, e.int(0), part_next),
        (a_part, a.pointer, a_next),
        (b_part, b.pointer, b_next),
        (fetch, ahead.pointer, fetch_next),
        *((carried[rv], first[rv].ir, new[rv]) for rv in tiles),
    ):
        phi.add_incoming(begin, before)
        phi.add_incoming(step, part_end)
    for phi, begin, step in (
        (k, e.int(0), k_next),
        (a_k, a_part, a_next),
        (b_k, b_part, b_next),
        *((total[rv], carried[rv], new[rv]) for rv in tiles),
    ):
        phi.add_incoming(begin, entry)
        phi.add_incoming(step, loop)


def each_vector(e, times, rows, vectors, packed, body):
    """body(e, row, column) for every vector of a tile, both i64, the column in elements; ``times`` at once.

    A formula is a chain of 10 to 50 dependent instructions, and a core's scheduler looks some hundred
    ahead: the next vectors' must stand beside it, not behind. packed: i1, the rows follow each other
    without gaps, so all of them are one.
    """
    vectors = e.b.select(packed, e.b.mul(rows, vectors), vectors)
    rows = e.b.select(packed, e.int(1), rows)
    wide = e.wider(times)
    whole = e.b.udiv(vectors, e.int(times))
    rest = e.b.mul(whole, e.int(times))
    with e.loop(rows) as r:
        with e.loop(whole) as v:
            body(wide, r, e.b.mul(v, e.int(wide.lanes)))
        with e.loop(e.b.sub(vectors, rest)) as v:
            body(e, r, e.b.mul(e.b.add(rest, v), e.int(e.lanes)))


def packed_rows(e, vectors, *strides):
    """i1: rows of ``vectors`` vectors fill all of these strides."""
    width = e.b.mul(vectors, e.int(e.lanes))
    full = [e.b.icmp_signed("==", width, stride) for stride in strides]
    return functools.reduce(e.b.and_, full)


ACTIVATE = "i i i m p i"


@emitted(ACTIVATE)
def activate(e, code, rows, vectors, a, slope, keep):
    """a = f(a), in place; where f is STORED and keep is not 0, slope (laid out as a) = f'(a)."""
    args = (code, rows, vectors, a, slope, keep)

    def plain(formula):
        def body(e, r, c):
            at = e.b.add(e.b.mul(r, a.stride), c)
            e.store(formula(e, e.load(a.pointer, at)), a.pointer, at)

        return lambda: each_vector(e, 2, rows, vectors, packed_rows(e, vectors, a.stride), body)

    e.switch(
        code,
        {codes.IDENTITY: lambda: None}
        | {c: plain(f) for c, f in formulas.ACTIVATION.items() if c != codes.IDENTITY}
        | {c: lambda f=f: write_activation(e, f, *args) for c, f in formulas.ACTIVATION_AND_SLOPE.items()},
        lambda: e.call_address(code, ACTIVATE, None, args),
    )


def write_activation(e, formula, code, rows, vectors, a, slope, keep):
    """The body of ``activate`` for a STORED one: formula(e, z) -> (output, derivative)."""

    def body(e, r, c):
        at = e.b.add(e.b.mul(r, a.stride), c)
        value, derivative = formula(e, e.load(a.pointer, at))
        e.store(value, a.pointer, at)
        with e.b.if_then(e.b.icmp_signed("!=", keep, e.int(0))):
            e.store(derivative, slope, at)

    each_vector(e, 2, rows, vectors, packed_rows(e, vectors, a.stride), body)


@emitted("i i i m m p")
def derive(e, code, rows, vectors, gradient, delta, a):
    """delta = gradient * f'; f' from the output a, or, for STORED ones and SLOPE_KEPT, what delta holds.

    a: laid out as delta.
    """
    at = lambda r, c: e.b.add(e.b.mul(r, delta.stride), c)  # noqa: E731

    def case(slope):
        def body(e, r, c):
            g = e.load(gradient.pointer, e.b.add(e.b.mul(r, gradient.stride), c))
            e.store(g if slope is None else g * slope(e, at(r, c)), delta.pointer, at(r, c))

        def run():
            packed = packed_rows(e, vectors, gradient.stride, delta.stride)
            each_vector(e, 2, rows, vectors, packed, body)

        return run

    e.switch(
        code,
        {codes.IDENTITY: case(None)}
        | {c: case(lambda e, i, f=f: f(e, e.load(a, i))) for c, f in formulas.SLOPE.items()},
        case(lambda e, i: e.load(delta.pointer, i)),
    )


@emitted("i i m m")
def add_rows(e, rows, vectors, out, x):
    """out += x"""

    def body(e, r, c):
        at = e.b.add(e.b.mul(r, out.stride), c)
        added = e.load(x.pointer, e.b.add(e.b.mul(r, x.stride), c))
        e.store(e.load(out.pointer, at) + added, out.pointer, at)

    each_vector(e, 2, rows, vectors, packed_rows(e, vectors, out.stride, x.stride), body)


@emitted("i i m m")
def copy_rows(e, rows, vectors, out, x):
    """out = x"""

    def body(e, r, c):
        value = e.load(x.pointer, e.b.add(e.b.mul(r, x.stride), c))
        e.store(value, out.pointer, e.b.add(e.b.mul(r, out.stride), c))

    each_vector(e, 2, rows, vectors, packed_rows(e, vectors, out.stride, x.stride), body)


@emitted("i i i m m m p")
def update(e, code, rows, vectors, gradient, w, slots, constants):
    """(w, slots) = the optimizer's step for a gradient; STORE: slots[0] = it, ADD: += it, w untouched.

    slots: its rows are laid out as w; behind the optimizer's own, where a FULL code has a C_EMA that is not
    0, the average of w. constants: codes.CONSTANTS floats.
    """

    def each(body, times=4):
        def run():
            def place(e, r, col):
                g = e.load(gradient.pointer, e.b.add(e.b.mul(r, gradient.stride), col))
                body(e, g, e.b.add(e.b.mul(r, w.stride), col))

            packed = packed_rows(e, vectors, gradient.stride, w.stride)
            each_vector(e, times, rows, vectors, packed, place)

        return run

    def case(name, formula):
        def run():
            numbers = [e.scalar(constants, i) for i in range(codes.CONSTANTS)]
            averages = e.b.fcmp_ordered("!=", numbers[codes.C_EMA], ir.Constant(e.real, 0.0))
            count = codes.SLOTS[name]

            def body(e, g, at):
                c = [e.splat(n) for n in numbers]
                places = [e.b.add(at, e.b.mul(slots.stride, e.int(s))) for s in range(count)]
                old, state = e.load(w.pointer, at), [e.load(slots.pointer, p) for p in places]
                new, state = formula(e, g, old, state, c)
                e.store(new, w.pointer, at)
                for place, value in zip(places, state, strict=True):
                    e.store(value, slots.pointer, place)
                if name >= codes.FULL:
                    with e.b.if_then(averages):
                        last = e.b.add(at, e.b.mul(slots.stride, e.int(count)))
                        mean = formulas.average(e, e.load(slots.pointer, last), new, c[codes.C_EMA])
                        e.store(mean, slots.pointer, last)

            # several vectors side by side make a fifth of the update, and more to compile
            each(body, 4 if name % codes.RULES in codes.COMMON and name < codes.FULL else 1)()

        return run

    kept = slots.pointer
    e.switch(
        code,
        {
            codes.STORE: each(lambda e, g, at: e.store(g, kept, at)),
            codes.ADD: each(lambda e, g, at: e.store(e.load(kept, at) + g, kept, at)),
        }
        | {n: case(n, f) for n, f in formulas.UPDATE.items()},
    )


@emitted("i p p r")
def average(e, vectors, mean, w, share):
    """mean += share * (w - mean), whole vectors."""
    share = e.splat(share)
    with e.loop(vectors) as v:
        at = e.b.mul(v, e.int(e.lanes))
        e.store(formulas.average(e, e.load(mean, at), e.load(w, at), share), mean, at)


@emitted("i i m r")
def limit_columns(e, rows, vectors, w, most):
    """w[:, c] *= most / (norm + 1e-7) where the norm of column c is above ``most``, as torch.renorm."""
    limit = e.splat(most)
    with e.loop(vectors) as v:
        first = e.at(w.pointer, e.b.mul(v, e.int(e.lanes)))
        whole, set_whole = e.cell(e.constant(0.0))
        with e.loop(rows, CHAINED) as begin:
            total, set_total = e.cell(e.constant(0.0))
            with e.loop(e.least(e.b.sub(rows, begin), CHAINED)) as r:
                x = e.load(first, e.b.mul(e.b.add(begin, r), w.stride))
                set_total(e.fma(x, x, total()))
            set_whole(whole() + total())
        norm = e.sqrt(whole())
        above = norm > limit
        factor = e.select(above, limit / (norm + 1e-7), 1.0)
        lanes = ir.IntType(e.lanes)
        with e.b.if_then(e.b.icmp_unsigned("!=", e.b.bitcast(above.ir, lanes), lanes(0))):
            with e.loop(rows) as r:
                at = e.b.mul(r, w.stride)
                e.store(e.load(first, at) * factor, first, at)


@emitted("i p r")
def scale(e, vectors, x, factor):
    """x *= factor, whole vectors."""
    factor = e.splat(factor)
    with e.loop(vectors) as v:
        at = e.b.mul(v, e.int(e.lanes))
        e.store(e.load(x, at) * factor, x, at)


@emitted("i i i m p m")
def pack_transposed(e, rows, vectors, columns, w, zeros, panel):
    """panel[c, r] = w[r, c] for r < vectors * lanes, c < columns; rows from ``rows`` on read as 0.

    Blocks of lanes x lanes are transposed in registers: log2(lanes) rounds of two-vector shuffles.
    columns are rounded up to whole vectors (w's rows are padded with zeros, the panel has the room).
    """
    n = e.lanes
    with e.loop(vectors) as v, e.loop(columns, n) as c:
        first = e.b.mul(v, e.int(n))
        block = []
        for q in range(n):
            r = e.b.add(first, e.int(q))
            inside = e.b.icmp_signed("<", r, rows)
            source = e.at(w.pointer, e.b.add(e.b.mul(r, w.stride), c))
            block.append(e.load(e.b.select(inside, source, zeros)).ir)
        step = n // 2
        while step:
            upper = [i if not i & step else n + i - step for i in range(n)]
            lower = [i + step if not i & step else n + i for i in range(n)]
            for q in (q for q in range(n) if not q & step):
                x, y = block[q], block[q + step]
                block[q], block[q + step] = e.shuffle(x, y, upper), e.shuffle(x, y, lower)
            step //= 2
        for q in range(n):
            place = e.b.add(e.b.mul(e.b.add(c, e.int(q)), panel.stride), first)
            e.store(Value(e, block[q]), panel.pointer, place)


@emitted("i m p i")
def pack_columns(e, count, x, out, width):
    """out[k * width + c] = x[k, c] for k < count, c < width.

    Whole vectors are copied: what is behind the columns is overwritten by the next row's; behind the last
    row's it stays.
    """
    with e.loop(count) as k, e.loop(width, e.lanes) as c:
        e.store(e.load(x.pointer, e.b.add(e.b.mul(k, x.stride), c)), out, e.b.add(e.b.mul(k, width), c))


@jit
def panel_vectors(like, left):
    """Vectors of the next panel where ``left`` are to come."""
    return cut(left, tile_height(like, 0))


@jit
def product(out, rows, vectors, x, b, start, depth, upcoming):
    """out = start + x @ b for a panel of b: every row of x meets a block of b that stays in L1.

    start: a vector for each of the panel's, added to every row. Meanwhile the upcoming panel comes into the
    cache, in proportion to where this one stands.
    """
    height = tile_height(out.pointer, vectors)
    k = 0
    while k < depth:
        count = cut(depth - k, DEPTH)
        i = 0
        while i < rows:
            tall = cut(rows - i, height)
            here = rows_from(out, i)
            begin = here
            if k == 0:
                begin = Matrix(start, 0)
            terms, jump = shift(x.pointer, i * x.stride + k), tall * upcoming.stride
            fetch = shift(upcoming.pointer, (k + count * i // rows) * upcoming.stride)
            tile(tall, vectors, count, Strided(terms, x.stride, 1), rows_from(b, k), begin, here,
                 Ahead(fetch, upcoming.stride, jump, jump, upcoming.tiles, 0))  # fmt: skip
            i += tall
        k += count


@jit
def tiles_ahead(rows, size):
    """Upcoming.tiles for a panel that ``rows`` rows pass: so many that all of the next one comes.

    In small layers (size weights) it is there anyway; in large ones its rows lie a page apart, where no
    core expects it.
    """
    return min((DEPTH + rows - 1) // rows, 4) if size >= FAR else 0


@jit
def dense_forward(out, slope, keep, x, w, code, area):
    """out = f(x @ w + b) in an area of it: overwrites out, and, for STORED f where ``keep``, slope.

    x (B, fan_in), out (B, fan_out), slope laid out as out; w: Weights, whose padding is 0.
    """
    lanes = lanes_of(out.pointer)
    column, end = area.columns
    while column < end:
        vectors = panel_vectors(out.pointer, (end - column) // lanes)
        panel, further = Matrix(shift(w.pointer, column), w.stride), column + vectors * lanes
        bias = shift(panel.pointer, w.fan_in * w.stride)
        i, last = area.rows
        while i < last:
            rows = cut(last - i, codes.BLOCK_ROWS)
            at = i * out.stride + column
            here = Matrix(shift(out.pointer, at), out.stride)
            first = i == area.rows.begin and further < end
            ahead = tiles_ahead(rows, w.fan_in * w.stride) if first else 0
            product(here, rows, vectors, rows_from(x, i), panel, bias, w.fan_in,
                    Upcoming(shift(w.pointer, further), w.stride, ahead))  # fmt: skip
            if code != codes.IDENTITY:
                activate(code, rows, vectors, here, shift(slope, at), keep)
            i += rows
        column += vectors * lanes


@jit
def dense_backward(out, a, delta, w, code, area, room, bypass):
    """out = (delta @ w.T) * f'(a) in an area of it: overwrites out.

    delta (B, fan_out), out (B, fan_in), a laid out as out; w: Weights, transposed panel by panel into the
    room's panel: 0.25 cycles an element, paid back over the rows. bypass: what goes past the layer.
    """
    lanes = lanes_of(out.pointer)
    column, end = area.columns
    while column < end:
        vectors = panel_vectors(out.pointer, (end - column) // lanes)
        width = vectors * lanes
        panel, buffer = Matrix(room.panel, width), Matrix(room.tile, width)
        source = Matrix(shift(w.pointer, column * w.stride), w.stride)
        pack_transposed(w.fan_in - column, vectors, w.fan_out, source, room.zeros, panel)
        i, last = area.rows
        while i < last:
            rows = cut(last - i, codes.BLOCK_ROWS)
            product(buffer, rows, vectors, rows_from(delta, i), panel, room.zeros, w.fan_out,
                    Upcoming(room.panel, 0, 0))  # fmt: skip
            at = i * out.stride + column
            if bypass.adds:
                stride = bypass.gradient.stride
                add_rows(rows, vectors, buffer,
                         Matrix(shift(bypass.gradient.pointer, i * stride + column), stride))  # fmt: skip
            if bypass.keeps:
                copy_rows(rows, vectors, Matrix(shift(bypass.total, at), out.stride), buffer)
            here = Matrix(shift(out.pointer, at), out.stride)
            derive(code, rows, vectors, buffer, here, shift(a, at))
            i += rows
        column += width


@jit
def slots_at(rule, place):
    """The optimizer's arrays from a place on."""
    return Matrix(shift(rule.slots.pointer, place), rule.slots.stride)


@jit
def put_gradient(rule, shape, gradient, w, place, piece, sums, constants):
    """A tile of the gradient of a piece of the batch to the pieces' sums; of the last one, with these, to
    ``rule``.

    shape: (rows, vectors); w, sums: where the tile's weights are, and their sums, laid out as they; place: of
    the slots, w's in the parameters.
    """
    rows, vectors = shape
    if piece.part == FIRST or piece.part == MORE:
        code = codes.STORE if piece.part == FIRST else codes.ADD
        update(code, rows, vectors, gradient, w, Matrix(sums, 0), constants)
        return
    if piece.part == LAST:
        add_rows(rows, vectors, gradient, Matrix(sums, w.stride))
    update(rule.code, rows, vectors, gradient, w, slots_at(rule, place), constants)


@jit
def narrow_update(w, rule, x, delta, piece, rows, room):
    """dense_update where the outputs leave most of a vector empty, no bias.

    The gradient is made transposed, delta.T @ x, so that the inputs fill the vectors, and turned in
    registers: 64 x 2 at batch 64 takes 0.2 us instead of 1.4. The same chains, so the same bits.
    """
    lanes, batch = lanes_of(w.pointer), piece.rows
    nothing = Ahead(room.tile, 0, 0, 0, 0, 0)
    i = rows.begin // lanes * lanes  # x's rows are padded to whole vectors from 0 on
    while i < rows.end:
        vectors = panel_vectors(w.pointer, (rows.end - i + lanes - 1) // lanes)
        width, height = vectors * lanes, tile_height(w.pointer, vectors)
        gradient = Matrix(shift(room.tile, w.fan_out * width), lanes)
        k = 0
        while k < batch:
            count = cut(batch - k, DEPTH)
            o = 0
            while o < w.fan_out:
                tall = cut(w.fan_out - o, height)
                sums = Matrix(shift(room.tile, o * width), width)
                begin = sums
                if k == 0:
                    begin = Matrix(room.zeros, 0)
                terms = Strided(shift(delta.pointer, k * delta.stride + o), 1, delta.stride)
                here = Matrix(shift(x.pointer, k * x.stride + i), x.stride)
                tile(tall, vectors, count, terms, here, begin, sums, nothing)
                o += tall
            k += count
        pack_transposed(w.fan_out, 1, width, Matrix(room.tile, width), room.zeros, gradient)
        first, end = max(i, rows.begin), min(i + width, rows.end)
        at = first * w.stride
        here, sums = Matrix(shift(w.pointer, at), w.stride), shift(room.sums, at)
        put_gradient(rule, (end - first, 1), rows_from(gradient, first - i), here, at, piece, sums,
                     rule.constants)  # fmt: skip
        i += width


@jit
def pack_panels(packs, delta, batch, columns):
    """Columns of delta (batch rows) panel by panel, each with its rows one behind the other."""
    lanes, j = lanes_of(packs), columns.begin
    while j < columns.end:
        vectors = panel_vectors(packs, (columns.end - j) // lanes)
        copy_rows(batch, vectors, Matrix(shift(packs, (j - columns.begin) * batch), vectors * lanes),
                  Matrix(shift(delta.pointer, j), delta.stride))  # fmt: skip
        j += vectors * lanes


@jit
def dense_update(w, rule, x, delta, area, piece, room):
    """(w, slots) = rule(x.T @ delta) in an area of w; row ``fan_in`` is b.

    x (B, fan_in), delta (B, fan_out); the bias has constants of its own. The gradient lives in registers and
    in the room's tile only. A few rows over all columns, then the next rows: w and slots are read as they lie
    in memory. Where delta is too large to pass by that often, TALL rows at a time.

    piece: WHOLE; or these rows of the batch are its FIRST, whose sums go to the room's (laid out as w), MORE,
    which are added there, or its LAST. Where it is packed, the room's panel holds these columns of delta as
    ``pack_panels`` leaves them.
    """
    lanes = lanes_of(w.pointer)
    i, last = area.rows
    begin, end = area.columns
    group = TALL
    if piece.rows <= DEPTH and (end - begin) * piece.rows <= CLOSE:
        group = tile_height(w.pointer, panel_vectors(w.pointer, (end - begin) // lanes))
    if end == lanes and EMPTY_LANES * w.fan_out <= lanes and i < w.fan_in:
        i = min(last, w.fan_in)
        narrow_update(w, rule, x, delta, piece, Slice(area.rows.begin, i), room)
    while i < last:
        rows = cut(min(last, w.fan_in) - i, group) if i < w.fan_in else 1
        update_rows(w, rule, x, delta, Slice(i, i + rows), area.columns, piece, room)
        i += rows


@jit
def update_rows(w, rule, x, delta, some, columns, piece, room):
    """``dense_update`` of ``some`` rows of weights, or of the bias, whose x is a column of ones.

    Meanwhile the tile's rows of w and its slots are on their way. Batches over DEPTH are summed in blocks of
    it, which stay in L1. Where deltas are packed, the rows' columns of x are packed behind them (TALL * batch
    numbers and a vector), so that each term's operands lie beside the last's: 0.82 to 0.87 of the time.
    """
    lanes, batch = lanes_of(w.pointer), piece.rows
    first, rows = some.begin, some.end - some.begin
    weights, goes_on = first < w.fan_in, piece.part == FIRST or piece.part == MORE
    width = columns.end - columns.begin
    tallest, packs = tile_height(w.pointer, panel_vectors(w.pointer, width // lanes)), width * batch
    blocks, ahead = (batch + DEPTH - 1) // DEPTH, distance(w.pointer, rule.slots.pointer)
    left, x_row, x_column = shift(x.pointer, first), np.int64(1), x.stride  # x.T, element by element
    constants = rule.constants if weights else rule.bias_constants
    if not weights:
        left, x_row, x_column = room.one, np.int64(0), np.int64(0)
    elif piece.packed:
        left = shift(room.panel, packs)
        pack_inputs(batch, Matrix(shift(x.pointer, first), x.stride), rows, tallest, left)
    j = columns.begin
    while j < columns.end:
        vectors = panel_vectors(w.pointer, (columns.end - j) // lanes)
        width, height = vectors * lanes, tile_height(w.pointer, vectors)
        right = Matrix(shift(delta.pointer, j), delta.stride)
        if piece.packed:
            right, height = Matrix(shift(room.panel, (j - columns.begin) * batch), width), tallest
        at = first * w.stride + j
        k = block = 0
        while k < batch:
            count = cut(batch - k, DEPTH)
            # the arrays to fetch are dealt out over the blocks: the bus is busy all the time
            fetched, next_fetched = rule.arrays * block // blocks, rule.arrays * (block + 1) // blocks
            fetch, jump = w.pointer, ahead
            if fetched > 0:
                fetch = shift(rule.slots.pointer, (fetched - 1) * rule.slots.stride)
                jump = rule.slots.stride
            if goes_on:
                fetched, next_fetched, fetch = 0, 0, w.pointer
            r = 0
            while r < rows:
                tall = cut(rows - r, height)
                here, place = Matrix(shift(room.tile, r * width), width), at + r * w.stride
                begin = here
                if k == 0:
                    begin = Matrix(room.zeros, np.int64(0))
                terms = Strided(shift(left, r * x_row + k * x_column), x_row, x_column)
                if piece.packed and weights:
                    terms = Strided(shift(left, r * batch + k * tall), x_row, tall)
                tile(tall, vectors, count, terms, rows_from(right, k), begin, here,
                     Ahead(shift(fetch, place), w.stride, jump, rule.slots.stride, next_fetched - fetched,
                           np.int64(1)))  # fmt: skip
                r += tall
            k, block = k + count, block + 1
        put_gradient(rule, (rows, vectors), Matrix(room.tile, width), Matrix(shift(w.pointer, at), w.stride),
                     at, piece, shift(room.sums, at), constants)  # fmt: skip
        j += width


@jit
def pack_inputs(batch, x, rows, tallest, out):
    """The first ``rows`` columns of x, for tiles of at most ``tallest``: one tile's behind the other's."""
    r = 0
    while r < rows:
        tall = cut(rows - r, tallest)
        pack_columns(batch, Matrix(shift(x.pointer, r), x.stride), shift(out, r * batch), tall)
        r += tall
