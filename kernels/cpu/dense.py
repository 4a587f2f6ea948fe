"""The dense layer: forward, backward and update as register tiles with everything else in their epilogues.

Floor, for B rows, I in, O out: each of the three products is B*I*O fused multiply-adds; a core does
2 vectors of them a cycle (1 on older ones). The update moves I*O*(1 + slots) floats in and out.

    tile (r rows, v vectors) = sum over k of  A[:, k]  x  B[k, :]

A's element is broadcast, B's row loaded as vectors, every accumulator stays in a register for the
whole of k. Each output is one chain of fused multiply-adds in the order of k whatever the tile, so
the result does not depend on how the work is cut: not on threads, nor on the batch around a row.
"""

import functools

import numpy as np
from llvmlite import ir

from .. import codes, formulas
from ..jit import jit
from .simd import I1, I64, Value, distance, emitted, lanes_of, shift

# rows of a tile by its vectors, for 32 and for 16 vector registers. Wide tiles read whole runs of
# B and few rows of A: on AVX-512, 6 x 4 ran at 0.8-1.0 of the peak where 12 x 2 ran at 0.6-0.8
# (row-major operands, K of 128 to 1024).
DEPTH = 128  # terms of a sum at a time: a block of B (32 KiB) stays in L1 while all rows pass it
GROUP = 48  # rows of weight tiles that share a block of deltas: their sums take 12 KiB
CLOSE = 1 << 17  # deltas that stay in L2 beside all else
FAR = 1 << 16  # weights of a layer from which the next panel of them is asked for early
WHOLE, FIRST, MORE, LAST = range(4)  # which part of a batch a gradient is summed over
NARROW = 1.5  # lanes an output from which the gradient is made transposed
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


@emitted("i i i p i i p i p i p i p i i i i i")
def tile(e, rows, vectors, depth, a, a_row, a_col, b, b_row, start, start_row, out, out_row,
         ahead, ahead_row, ahead_first, ahead_jump, ahead_arrays, ahead_write):  # fmt: skip
    """out[r, :] = start[r, :] + sum over k < depth of a[r, k] * b[k, :]; depth >= 1.

    a by strides (a_row, a_col); b, start, out: rows of vectors; start_row 0 repeats one row. While
    it runs it fetches what comes next, of the tile's shape: rows at ``ahead`` and in ahead_arrays - 1
    more arrays, ahead_first further on, then ahead_jump apart; ahead_write 1: to be written.
    """
    cases = {}
    for v, height in _heights(e).items():
        for r in range(1, height + 1):
            cases[16 * v + r] = lambda r=r, v=v: _tile_loop(
                e, r, v, depth, a, a_row, a_col, b, b_row, start, start_row, out, out_row,
                ahead, ahead_row, ahead_first, ahead_jump, ahead_arrays, ahead_write,
            )  # fmt: skip
    e.switch(e.b.add(e.b.mul(vectors, e.int(16)), rows), cases)


def _tile_loop(e, rows, vectors, depth, a, a_row, a_col, b, b_row, start, start_row, out, out_row,
               ahead, ahead_row, ahead_first, ahead_jump, ahead_arrays, ahead_write):  # fmt: skip
    bd, tiles = e.b, [(r, v) for r in range(rows) for v in range(vectors)]
    row_offset = [bd.mul(a_row, e.int(r)) for r in range(rows)]
    first = {(r, v): e.load(start, bd.add(bd.mul(start_row, e.int(r)), e.int(v * e.lanes))) for r, v in tiles}
    # The sum over k runs in parts; before each, half of an array's rows are asked for: at most
    # 12 lines, less than a core can wait for at once (16), so the loop itself never waits.
    half = (rows + 1) // 2
    parts = bd.mul(ahead_arrays, e.int(2))
    few = bd.or_(bd.icmp_signed("<", depth, parts), bd.icmp_signed("==", parts, e.int(0)))
    parts = bd.select(few, e.int(1), parts)
    each = bd.udiv(depth, parts)

    before = bd.block
    part_start, loop, part_end, after = (
        bd.append_basic_block(name) for name in ("part", "k", "next", "store")
    )
    bd.branch(part_start)
    bd.position_at_end(part_start)
    part, a_part, b_part, fetch = bd.phi(I64), bd.phi(a.type), bd.phi(b.type), bd.phi(ahead.type)
    carried = {rv: bd.phi(e.vector) for rv in tiles}
    for wanted, writes in ((1, True), (0, False)):
        mine = bd.icmp_signed("==", ahead_write, e.int(wanted))
        with bd.if_then(bd.and_(mine, bd.icmp_signed("!=", ahead_arrays, e.int(0)))):
            for r in range(half):
                for v in range(vectors):
                    e.prefetch(fetch, bd.add(bd.mul(ahead_row, e.int(r)), e.int(v * e.lanes)), writes)
    part_next = bd.add(part, e.int(1))
    rest = bd.sub(depth, bd.mul(each, part))
    count = bd.select(bd.icmp_signed("==", part_next, parts), rest, each)
    lower = bd.mul(ahead_row, e.int(half))
    upper = bd.sub(bd.select(bd.icmp_signed("==", part, e.int(1)), ahead_first, ahead_jump), lower)
    odd = bd.trunc(part, I1)
    fetch_next = e.at(fetch, bd.select(odd, upper, lower))
    entry = bd.block
    bd.branch(loop)

    bd.position_at_end(loop)
    k, a_k, b_k = bd.phi(I64), bd.phi(a.type), bd.phi(b.type)
    total = {rv: bd.phi(e.vector) for rv in tiles}
    b_row_now = [e.load(b_k, v * e.lanes) for v in range(vectors)]
    new = {}
    for r in range(rows):
        a_now = e.splat(e.scalar(a_k, row_offset[r]))
        for v in range(vectors):
            new[r, v] = e.fma(a_now, b_row_now[v], Value(e, total[r, v])).ir
    k_next, a_next, b_next = bd.add(k, e.int(1)), e.at(a_k, a_col), e.at(b_k, b_row)
    bd.cbranch(bd.icmp_signed("<", k_next, count), loop, part_end)

    bd.position_at_end(part_end)
    bd.cbranch(bd.icmp_signed("<", part_next, parts), part_start, after)
    bd.position_at_end(after)
    for r, v in tiles:
        e.store(Value(e, new[r, v]), out, bd.add(bd.mul(out_row, e.int(r)), e.int(v * e.lanes)))

    for phi, begin, step in (
        (part, e.int(0), part_next),
        (a_part, a, a_next),
        (b_part, b, b_next),
        (fetch, ahead, fetch_next),
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


ACTIVATE = "i i i p i p i"


@emitted(ACTIVATE)
def activate(e, code, rows, vectors, a, a_row, slope, keep):
    """a = f(a), in place; where f is STORED and keep is not 0, slope (laid out as a) = f'(a)."""
    args = (code, rows, vectors, a, a_row, slope, keep)

    def plain(formula):
        def body(e, r, c):
            at = e.b.add(e.b.mul(r, a_row), c)
            e.store(formula(e, e.load(a, at)), a, at)

        return lambda: each_vector(e, 2, rows, vectors, packed_rows(e, vectors, a_row), body)

    e.switch(
        code,
        {codes.IDENTITY: lambda: None}
        | {c: plain(f) for c, f in formulas.ACTIVATION.items() if c != codes.IDENTITY}
        | {c: lambda f=f: write_activation(e, f, *args) for c, f in formulas.ACTIVATION_AND_SLOPE.items()},
        lambda: e.call_address(code, ACTIVATE, None, args),
    )


def write_activation(e, formula, code, rows, vectors, a, a_row, slope, keep):
    """The body of ``activate`` for a STORED one: formula(e, z) -> (output, derivative)."""

    def body(e, r, c):
        at = e.b.add(e.b.mul(r, a_row), c)
        value, derivative = formula(e, e.load(a, at))
        e.store(value, a, at)
        with e.b.if_then(e.b.icmp_signed("!=", keep, e.int(0))):
            e.store(derivative, slope, at)

    each_vector(e, 2, rows, vectors, packed_rows(e, vectors, a_row), body)


@emitted("i i i p i p p i")
def derive(e, code, rows, vectors, grad, grad_row, delta, a, row):
    """delta = grad * f'; f' from the output a, or, for STORED ones and KEPT, what delta holds."""
    at = lambda r, c: e.b.add(e.b.mul(r, row), c)  # noqa: E731

    def case(slope):
        def body(e, r, c):
            g = e.load(grad, e.b.add(e.b.mul(r, grad_row), c))
            e.store(g if slope is None else g * slope(e, at(r, c)), delta, at(r, c))

        return lambda: each_vector(e, 2, rows, vectors, packed_rows(e, vectors, grad_row, row), body)

    e.switch(
        code,
        {codes.IDENTITY: case(None)}
        | {c: case(lambda e, i, f=f: f(e, e.load(a, i))) for c, f in formulas.SLOPE.items()},
        case(lambda e, i: e.load(delta, i)),
    )


@emitted("i i p i p i")
def add_rows(e, rows, vectors, out, out_row, x, x_row):
    """out += x"""

    def body(e, r, c):
        at = e.b.add(e.b.mul(r, out_row), c)
        e.store(e.load(out, at) + e.load(x, e.b.add(e.b.mul(r, x_row), c)), out, at)

    each_vector(e, 2, rows, vectors, packed_rows(e, vectors, out_row, x_row), body)


@emitted("i i p i p i")
def copy_rows(e, rows, vectors, out, out_row, x, x_row):
    """out = x"""

    def body(e, r, c):
        e.store(e.load(x, e.b.add(e.b.mul(r, x_row), c)), out, e.b.add(e.b.mul(r, out_row), c))

    each_vector(e, 2, rows, vectors, packed_rows(e, vectors, out_row, x_row), body)


@emitted("i i i p i p p i i p")
def update(e, code, rows, vectors, grad, grad_row, w, slots, stride, row, constants):
    """(w, slots) = the optimizer's step for gradient grad; STORE: slots[0] = grad, ADD: += grad, w untouched.

    slots: laid out as w, slot k at slots + k * stride; behind them, where a FULL code has a C_EMA that
    is not 0, the average of w. constants: codes.CONSTANTS floats.
    """

    def each(body, times=4):
        def run():
            def place(e, r, col):
                g = e.load(grad, e.b.add(e.b.mul(r, grad_row), col))
                body(e, g, e.b.add(e.b.mul(r, row), col))

            each_vector(e, times, rows, vectors, packed_rows(e, vectors, grad_row, row), place)

        return run

    def case(name, formula):
        def run():
            numbers = [e.scalar(constants, i) for i in range(codes.CONSTANTS)]
            averages = e.b.fcmp_ordered("!=", numbers[codes.C_EMA], ir.Constant(e.real, 0.0))
            count = codes.SLOTS[name]

            def body(e, g, at):
                c = [e.splat(n) for n in numbers]
                places = [e.b.add(at, e.b.mul(stride, e.int(s))) for s in range(count)]
                new, state = formula(e, g, e.load(w, at), [e.load(slots, p) for p in places], c)
                e.store(new, w, at)
                for place, value in zip(places, state, strict=True):
                    e.store(value, slots, place)
                if name >= codes.FULL:
                    with e.b.if_then(averages):
                        last = e.b.add(at, e.b.mul(stride, e.int(count)))
                        mean = formulas.average(e, e.load(slots, last), new, c[codes.C_EMA])
                        e.store(mean, slots, last)

            # several vectors side by side make a fifth of the update, and more to compile
            each(body, 4 if name % codes.RULES in codes.COMMON and name < codes.FULL else 1)()

        return run

    e.switch(
        code,
        {
            codes.STORE: each(lambda e, g, at: e.store(g, slots, at)),
            codes.ADD: each(lambda e, g, at: e.store(e.load(slots, at) + g, slots, at)),
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


@emitted("i i p i r")
def limit_columns(e, rows, vectors, w, row, most):
    """w[:, c] *= most / (norm + 1e-7) where the norm of column c is above ``most``, as torch.renorm."""
    limit = e.splat(most)
    with e.loop(vectors) as v:
        first = e.at(w, e.b.mul(v, e.int(e.lanes)))
        total, add = e.cell(e.constant(0.0))
        with e.loop(rows) as r:
            x = e.load(first, e.b.mul(r, row))
            add(e.fma(x, x, total()))
        norm = e.sqrt(total())
        above = norm > limit
        factor = e.select(above, limit / (norm + 1e-7), 1.0)
        lanes = ir.IntType(e.lanes)
        with e.b.if_then(e.b.icmp_unsigned("!=", e.b.bitcast(above.ir, lanes), lanes(0))):
            with e.loop(rows) as r:
                at = e.b.mul(r, row)
                e.store(e.load(first, at) * factor, first, at)


@emitted("i p r")
def scale(e, vectors, x, factor):
    """x *= factor, whole vectors."""
    factor = e.splat(factor)
    with e.loop(vectors) as v:
        at = e.b.mul(v, e.int(e.lanes))
        e.store(e.load(x, at) * factor, x, at)


@emitted("i i i p i p p i")
def pack_transposed(e, rows, vectors, columns, w, w_row, zeros, panel, panel_row):
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
            source = e.at(w, e.b.add(e.b.mul(r, w_row), c))
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
            place = e.b.add(e.b.mul(e.b.add(c, e.int(q)), panel_row), first)
            e.store(Value(e, block[q]), panel, place)


@emitted("i p i p i")
def pack_columns(e, count, x, x_row, out, width):
    """out[k * width + c] = x[k, c] for k < count, c < width.

    Whole vectors are copied: what is behind the columns is overwritten by the next row's; behind the last
    row's it stays.
    """
    with e.loop(count) as k, e.loop(width, e.lanes) as c:
        e.store(e.load(x, e.b.add(e.b.mul(k, x_row), c)), out, e.b.add(e.b.mul(k, width), c))


@jit
def cut(count, most):
    """Size of the next part when count is cut into the fewest parts of at most ``most``, all alike."""
    parts = (count + most - 1) // most
    return (count + parts - 1) // parts


@jit
def layer(plan, index):
    """The columns of one layer."""
    return shift(plan, codes.HEADER + index * codes.LAYER_COLUMNS)


@jit
def whole_vectors(like, count):
    """Vectors that hold ``count`` floats."""
    lanes = lanes_of(like)
    return (count + lanes - 1) // lanes


@jit
def share_of(count, share, shares):
    """[first, last) of count, as number ``share`` of ``shares`` gets it."""
    return count * share // shares, count * (share + 1) // shares


@jit
def panel_vectors(like, left):
    """Vectors of the next panel where ``left`` are to come."""
    return cut(left, tile_height(like, 0))


@jit
def product(out, ldo, rows, vectors, x, ldx, b, b_row, start, depth, ahead, ahead_row, ahead_tiles):
    """out = start + x @ b for a panel of b: every row of x meets a block of b that stays in L1.

    Meanwhile the next panel comes into the cache, ``depth`` rows at ``ahead``: each tile asks for as many as
    ahead_tiles tiles have, in proportion to where it stands itself.
    """
    height = tile_height(out, vectors)
    k = 0
    while k < depth:
        count = cut(depth - k, DEPTH)
        i = 0
        while i < rows:
            tall = cut(rows - i, height)
            at = shift(out, i * ldo)
            if k == 0:
                begin, begin_row = start, 0
            else:
                begin, begin_row = at, ldo
            fetch, jump = shift(ahead, (k + count * i // rows) * ahead_row), tall * ahead_row
            tile(tall, vectors, count, shift(x, i * ldx + k), ldx, 1, shift(b, k * b_row), b_row,
                 begin, begin_row, at, ldo, fetch, ahead_row, jump, jump, ahead_tiles, 0)  # fmt: skip
            i += tall
        k += count


@jit
def tiles_ahead(rows, size):
    """``product``'s ahead_tiles for a panel that ``rows`` rows pass: so many that all of the next one comes.

    In small layers (size weights) it is there anyway; in large ones its rows lie a page apart, where no
    core expects it.
    """
    return min((DEPTH + rows - 1) // rows, 4) if size >= FAR else 0


@jit
def dense_forward(out, ldo, slope, keep, x, ldx, w, ldw, depth, code, row, last, column, end):
    """out = f(x @ w + b), rows [row, last), columns [column, end): overwrites out (and slope).

    x (B, depth), w (depth, O) with b as its row ``depth``, out and slope (B, O); columns are
    multiples of the lanes, padding included: w's padding is 0.
    """
    lanes = lanes_of(out)
    while column < end:
        vectors = panel_vectors(out, (end - column) // lanes)
        i = row
        while i < last:
            rows = cut(last - i, codes.BLOCK_ROWS)
            at = i * ldo + column
            further = column + vectors * lanes
            ahead = tiles_ahead(rows, depth * ldw) if i == row and further < end else 0
            product(shift(out, at), ldo, rows, vectors, shift(x, i * ldx), ldx, shift(w, column), ldw,
                    shift(w, depth * ldw + column), depth, shift(w, further), ldw, ahead)  # fmt: skip
            if code != codes.IDENTITY:
                activate(code, rows, vectors, shift(out, at), ldo, shift(slope, at), keep)
            i += rows
        column += vectors * lanes


@jit
def dense_backward(out, ldo, a, delta, ldd, w, ldw, depth, inner, code, row, last, column, end,
                   panel, buffer, zeros, skips, skip, skip_row, keeps, total):  # fmt: skip
    """out = (delta @ w.T) * f'(a), rows [row, last), columns [column, end): overwrites out.

    delta (B, depth), w (inner, depth), a and out (B, inner). w is transposed panel by panel into
    ``panel``: 0.25 cycles an element, paid back over the rows. buffer: codes.BLOCK_ROWS rows of a panel.
    Where ``skips``, skip (B, inner), what came past the layer, is added to delta @ w.T; where ``keeps``,
    total (laid out as out) = that sum.
    """
    lanes = lanes_of(out)
    while column < end:
        vectors = panel_vectors(out, (end - column) // lanes)
        width = vectors * lanes
        pack_transposed(inner - column, vectors, depth, shift(w, column * ldw), ldw, zeros, panel, width)
        i = row
        while i < last:
            rows = cut(last - i, codes.BLOCK_ROWS)
            product(buffer, width, rows, vectors, shift(delta, i * ldd), ldd, panel, width, zeros, depth,
                    panel, 0, 0)  # fmt: skip
            at = i * ldo + column
            if skips:
                add_rows(rows, vectors, buffer, width, shift(skip, i * skip_row + column), skip_row)
            if keeps:
                copy_rows(rows, vectors, shift(total, at), ldo, buffer, width)
            derive(code, rows, vectors, buffer, width, shift(out, at), shift(a, at), ldo)
            i += rows
        column += width


@jit
def narrow_update(w, slots, stride, ldw, x, ldx, delta, ldd, batch, outer, code, row, last, constants,
                  buffer, zeros):  # fmt: skip
    """dense_update where the outputs leave most of a vector empty, rows [row, last), no bias.

    The gradient is made transposed, delta.T @ x, so that the inputs fill the vectors, and turned in
    registers: 64 x 2 at batch 64 takes 0.2 us instead of 1.4. The same chains, so the same bits.
    """
    lanes = lanes_of(w)
    i = row // lanes * lanes  # x's rows are padded to whole vectors from 0 on
    while i < last:
        vectors = panel_vectors(w, (last - i + lanes - 1) // lanes)
        width, height = vectors * lanes, tile_height(w, vectors)
        gradient = shift(buffer, outer * width)
        k = 0
        while k < batch:
            count = cut(batch - k, DEPTH)
            o = 0
            while o < outer:
                tall = cut(outer - o, height)
                sums = shift(buffer, o * width)
                begin, begin_row = (zeros, np.int64(0)) if k == 0 else (sums, width)
                tile(tall, vectors, count, shift(delta, k * ldd + o), 1, ldd, shift(x, k * ldx + i), ldx,
                     begin, begin_row, sums, width, sums, 0, 0, 0, 0, 0)  # fmt: skip
                o += tall
            k += count
        pack_transposed(outer, 1, width, buffer, width, zeros, gradient, lanes)
        first, end = max(i, row), min(i + width, last)
        update(code, end - first, 1, shift(gradient, (first - i) * lanes), lanes, shift(w, first * ldw),
               shift(slots, first * ldw), stride, ldw, constants)  # fmt: skip
        i += width


@jit
def pack_panels(packs, delta, ldd, batch, column, end):
    """Columns [column, end) of delta (batch rows) panel by panel, each with its rows one behind the other."""
    lanes, j = lanes_of(packs), column
    while j < end:
        vectors = panel_vectors(packs, (end - j) // lanes)
        copy_rows(batch, vectors, shift(packs, (j - column) * batch), vectors * lanes, shift(delta, j), ldd)
        j += vectors * lanes


@jit
def dense_update(w, slots, stride, ldw, x, ldx, delta, ldd, batch, inner, outer, code, arrays, row, last,
                 column, end, constants, bias_constants, buffer, zeros, one, sums, piece, packs,
                 packed):  # fmt: skip
    """(w, slots) = step(x.T @ delta), rows [row, last), columns [column, end); row ``inner`` is b.

    x (B, inner), delta (B, O); the bias has constants of its own. The gradient lives in registers and
    in ``buffer`` only; meanwhile the tile's rows of w and its slots (``arrays`` in all, ``stride`` apart)
    are on their way. A few rows over all columns, then the next rows: w and slots are read as they lie
    in memory. Where delta is too large to pass by that often, GROUP rows at a time; batches over DEPTH are
    summed in blocks of it that stay in L1 meanwhile.

    piece: WHOLE; or these rows of the batch are its FIRST, whose sums go to ``sums`` (laid out as w),
    MORE, which go on from there, or its LAST. One chain in any case, so the same bits.
    packed: whether ``packs`` holds these columns of delta as ``pack_panels`` leaves them. Then a tile's
    columns of x are packed behind them (GROUP * batch numbers and a vector), so that each term's operands lie
    beside the last's: 0.82 to 0.87 of the time.
    """
    lanes = lanes_of(w)
    ahead = distance(w, slots)
    blocks, goes_on = (batch + DEPTH - 1) // DEPTH, piece == FIRST or piece == MORE
    tallest = tile_height(w, panel_vectors(w, (end - column) // lanes))
    group = tallest if blocks == 1 and (end - column) * batch <= CLOSE else GROUP
    columns = shift(packs, (end - column) * batch)
    i = row
    if piece == WHOLE and end == lanes and NARROW * outer <= lanes and row < inner:
        i = min(last, inner)
        narrow_update(w, slots, stride, ldw, x, ldx, delta, ldd, batch, outer, code, row, i, constants,
                      buffer, zeros)  # fmt: skip
    while i < last:
        weights = i < inner
        if weights:
            rows, c = cut(min(last, inner) - i, group), constants
            left, across, down = shift(x, i), np.int64(1), ldx
        else:  # the bias: x is a column of ones
            rows, c = np.int64(1), bias_constants
            left, across, down = one, np.int64(0), np.int64(0)
        if packed and weights:
            r = 0
            while r < rows:
                tall = cut(rows - r, tallest)
                pack_columns(batch, shift(left, r), ldx, shift(columns, r * batch), tall)
                r += tall
        j = column
        while j < end:
            vectors = panel_vectors(w, (end - j) // lanes)
            width, height = vectors * lanes, tile_height(w, vectors)
            right, right_row = shift(delta, j), ldd
            if packed:
                right, right_row, height = shift(packs, (j - column) * batch), width, tallest
            at = i * ldw + j
            k = block = 0
            while k < batch:
                count = cut(batch - k, DEPTH)
                # the arrays to fetch are dealt out over the blocks: the bus is busy all the time
                fetched, next_fetched = arrays * block // blocks, arrays * (block + 1) // blocks
                fetch, jump = (w, ahead) if fetched == 0 else (shift(slots, (fetched - 1) * stride), stride)
                if goes_on:
                    fetched, next_fetched, fetch = 0, 0, w
                r = 0
                while r < rows:
                    tall = cut(rows - r, height)
                    here = shift(buffer, r * width)
                    begin, begin_row = (zeros, np.int64(0)) if k == 0 else (here, width)
                    if k == 0 and piece >= MORE:
                        begin, begin_row = shift(sums, at + r * ldw), ldw
                    terms = shift(left, r * across + k * down)
                    if packed and weights:
                        down = tall
                        terms = shift(columns, r * batch + k * tall)
                    tile(tall, vectors, count, terms, across, down, shift(right, k * right_row), right_row,
                         begin, begin_row, here, width, shift(fetch, at + r * ldw), ldw, jump, stride,
                         next_fetched - fetched, 1)  # fmt: skip
                    r += tall
                k, block = k + count, block + 1
            if goes_on:
                update(codes.STORE, rows, vectors, buffer, width, shift(w, at), shift(sums, at), 0, ldw, c)
            else:
                update(code, rows, vectors, buffer, width, shift(w, at), shift(slots, at), stride, ldw, c)
            j += width
        i += rows
