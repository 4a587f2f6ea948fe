"""Rows of outputs as the losses of loss_formulas.py see them: along the columns, or across the rows.

Across: one row, its columns are the lanes; sums are folded over the lanes. Down: as many rows as there
are lanes, column after column, from transposed copies: nothing is folded, and one exp serves a column
of all of them. A short row's chain of folds, exp and log is latency, most of its lanes are empty.
"""

from math import inf

from llvmlite import ir

from ..codes import LOSS_SCALARS
from .simd import Value

PIECE = 4  # columns that are transposed at once


class View:
    """What both views share: n_out columns of z, and of delta, where gradients and links go.

    numbers: the loss's LOSS_SCALARS hyperparameters, then one number for each output.
    """

    def __init__(self, e, n_out, numbers, z, delta):
        self.e, self.n_out, self._numbers, self._z, self._delta = e, n_out, numbers, z, delta
        self.outputs = e.splat(e.b.sitofp(n_out, e.real))

    def weigh(self, t, loss, scale, hits):
        """What losses need beside outputs: pointers to targets, row losses, weights, the i64 hits."""
        self._t, self._loss, self._hits, self.scale = t, loss, hits, self._load_scale(scale)
        self.alive = self.scale > 0.0  # a row of weight 0 counts for nothing, whatever its numbers

    def sums(self, count, body):
        cells = [self.e.cell(self.e.constant(0.0)) for _ in range(count)]

        def add(c):
            for (total, set_total), x in zip(cells, body(c), strict=True):
                set_total(total() + self.inside(c, x, 0.0))

        self.each(add)
        return [self.fold_sum(total()) for total, _ in cells]

    def top(self, values):
        e = self.e
        best, set_best = e.cell(e.constant(-inf))
        place, set_place = e.cell(e.constant(0.0))

        def body(c):
            x = self.inside(c, values(c), -inf)
            up = x > best()  # the first of equals
            set_place(e.select(up, self.columns(c), place()))
            set_best(e.select(up, x, best()))

        self.each(body)
        return self.fold_top(best(), place())

    def number(self, i):
        return self.e.splat(self.e.scalar(self._numbers, i))

    def half(self):
        return self.e.b.lshr(self.n_out, self.e.int(1))

    def put(self, c, x):
        self.keep(c, self.e.select(self.real(c), x * self.scale, 0.0))

    def set(self, c, x):
        self.keep(c, self.inside(c, x, 0.0))

    def right_each(self, c, mask):
        self._count(mask & self.real(c))

    def cumulate(self, backwards=False):
        e, last = self.e, self.e.b.sub(self.n_out, self.e.int(1))
        total, set_total = e.cell(e.constant(0.0))
        with e.loop(self.n_out) as i:
            c = e.b.sub(last, i) if backwards else i
            begins = e.splat(e.scalar(self._numbers, e.b.add(c, e.int(LOSS_SCALARS)))) < 0.0
            if not backwards:
                set_total(e.select(begins, 0.0, total()))
            set_total(total() + self._column(c))
            self._keep_column(c, total())
            if backwards:
                set_total(e.select(begins, 0.0, total()))

    def _count(self, mask):
        b = self.e.b
        b.store(b.add(b.load(self._hits), self.e.count(mask)), self._hits)


class Across(View):
    """One row, as it lies in memory."""

    def _load_scale(self, scale):
        return self.e.splat(self.e.scalar(scale))

    def each(self, body):
        with self.e.loop(self.n_out, self.e.lanes) as c:
            body(c)

    def _columns_mask(self, c):
        return self.e.lanes_below(self.e.b.sub(self.n_out, c))

    def inside(self, c, x, other):
        return self.e.select(self._columns_mask(c), x, other)

    def real(self, c):
        return self._columns_mask(c) & self.alive

    def columns(self, c):
        return self.e.lane_numbers() + self.e.splat(self.e.b.sitofp(c, self.e.real))

    def z(self, c):
        return self.e.load(self._z, c)

    def t(self, c):
        return self.e.load(self._t, c)

    def keep(self, c, x):
        self.e.store(x, self._delta, c)

    def kept(self, c):
        return self.e.load(self._delta, c)

    def _column(self, c):
        return self.e.splat(self.e.scalar(self._delta, c))

    def _keep_column(self, c, x):
        self.e.b.store(self.e.first(x), self.e.at(self._delta, c))

    @property
    def label(self):
        return self.e.splat(self.e.scalar(self._t))

    def vector(self, c):
        return self.e.load(self._numbers, self.e.b.add(c, self.e.int(LOSS_SCALARS)))

    def _pick(self, pointer, number):
        # a sample that is to be ignored may have a class below 0
        place = self.e.b.fptosi(self.e.first(self.e.maximum(number, 0.0)), self.n_out.type)
        return self.e.splat(self.e.scalar(pointer, place))

    def z_at(self, number):
        return self._pick(self._z, number)

    def vector_at(self, number):
        return self._pick(self.e.at(self._numbers, LOSS_SCALARS), number)

    def weight(self, c):
        return self.e.load(self._t, self.e.b.add(c, self.n_out))

    def halves(self, body, *more):
        e, half = self.e, self.half()
        last = e.b.and_(e.b.sub(self.n_out, e.int(1)), e.int(-e.lanes))
        e.store(e.constant(0.0), self._delta, last)
        total, set_total = e.cell(e.constant(0.0))
        with e.loop(half, e.lanes) as c:
            mask, other = e.lanes_below(e.b.sub(half, c)), e.b.add(c, half)
            first, second = (e.masked_load(e.at(self._z, i), mask) for i in (c, other))
            value, *slopes = body(first, second, self.t(c), *(f(c) for f in more))
            set_total(total() + e.select(mask, value, 0.0))
            for place, slope in zip((c, other), slopes, strict=True):
                x = e.select(self.alive, slope * self.scale, 0.0)
                e.masked_store(x, e.at(self._delta, place), mask)
        return self.fold_sum(total())

    def fold_sum(self, x):
        return self.e.sum(x)

    def fold_top(self, best, place):
        e = self.e
        for lanes in e.halves():
            other, there = (Value(e, e.shuffle(x.ir, x.ir, lanes)) for x in (best, place))
            better = (other > best) | ((other == best) & (there < place))
            best, place = e.select(better, other, best), e.select(better, there, place)
        return best, place

    def finish(self, loss):
        self.e.b.store(self.e.first(self.e.select(self.alive, loss * self.scale, 0.0)), self._loss)

    def right(self, mask):
        self._count(mask & self.alive & (self.e.lane_numbers() < 1.0))


class Down(View):
    """A vector of rows; z, t, delta are columns of as many floats. rows: mask of those that are there."""

    def __init__(self, e, n_out, numbers, z, delta, rows):
        super().__init__(e, n_out, numbers, z, delta)
        self._rows = rows

    def _load_scale(self, scale):
        return self.e.masked_load(scale, self._rows)

    def each(self, body):
        with self.e.loop(self.n_out) as c:
            body(c)

    def inside(self, c, x, other):
        return self.e.lift(x)

    def real(self, c):
        return self.alive

    def columns(self, c):
        return self.e.splat(self.e.b.sitofp(c, self.e.real))

    def _at(self, c):
        return self.e.b.mul(c, self.e.int(self.e.lanes))

    def z(self, c):
        return self.e.load(self._z, self._at(c))

    def t(self, c):
        return self.e.load(self._t, self._at(c))

    def keep(self, c, x):
        self.e.store(x, self._delta, self._at(c))

    def kept(self, c):
        return self.e.load(self._delta, self._at(c))

    _column, _keep_column = kept, keep

    @property
    def label(self):
        return self.e.load(self._t)

    def vector(self, c):
        return self.number(self.e.b.add(c, self.e.int(LOSS_SCALARS)))

    def _pick(self, values, number):
        (found,) = self.sums(1, lambda c: (self.e.select(self.columns(c) == number, values(c), 0.0),))
        return found

    def z_at(self, number):
        return self._pick(self.z, number)

    def vector_at(self, number):
        return self._pick(self.vector, number)

    def weight(self, c):
        return self.t(self.e.b.add(c, self.n_out))

    def halves(self, body, *more):
        e, half = self.e, self.half()
        total, set_total = e.cell(e.constant(0.0))
        with e.loop(half) as c:
            other = e.b.add(c, half)
            value, first, second = body(self.z(c), self.z(other), self.t(c), *(f(c) for f in more))
            set_total(total() + value)
            self.put(c, first)
            self.put(other, second)
        return total()

    def fold_sum(self, x):
        return x

    def fold_top(self, best, place):
        return best, place

    def finish(self, loss):
        self.e.masked_store(self.e.select(self.alive, loss * self.scale, 0.0), self._loss, self._rows)

    def right(self, mask):
        self._count(mask & self.alive)


class Block:
    """A vector of rows in memory, their columns moved to and from buffers of whole vectors.

    PIECE columns at a time: each row's piece is one short load, put together to as many vectors, then
    transposed among them: lanes + 2 PIECE instructions. A square block would mostly move padding.
    """

    def __init__(self, e, first, rows):
        self.e, self.piece = e, min(PIECE, e.lanes)
        b, one = e.b, e.int(1)
        self.numbers = [b.add(first, e.int(i)) for i in range(e.lanes)]
        self.there = [b.icmp_signed("<", n, rows) for n in self.numbers]
        last = b.sub(rows, one)
        self.clamped = [b.select(is_, n, last) for is_, n in zip(self.there, self.numbers, strict=True)]
        self.short = ir.VectorType(e.real, self.piece).as_pointer()

    def _transposed(self, block):
        """Among ``piece`` vectors: element j of a piece of vector i <-> element i of that of vector j."""
        e, n, step = self.e, self.e.lanes, self.piece // 2
        while step:
            upper = [i if not i & step else n + i - step for i in range(n)]
            lower = [i + step if not i & step else n + i for i in range(n)]
            for q in (q for q in range(self.piece) if not q & step):
                x, y = block[q], block[q + step]
                block[q], block[q + step] = e.shuffle(x, y, upper), e.shuffle(x, y, lower)
            step //= 2
        return block

    def fetch(self, source, ld, columns, buffer):
        """buffer[c, :] = these rows of column c, up to whole pieces; rows that are not there: the last."""
        e = self.e
        rows = [e.at(source, e.b.mul(r, ld)) for r in self.clamped]
        with e.loop(columns, self.piece) as c:
            pieces = [e.b.load(e.b.bitcast(e.at(r, c), self.short), align=e.size) for r in rows]
            block = []
            for q in range(self.piece):
                parts, size = pieces[q :: self.piece], self.piece
                while len(parts) > 1:
                    size *= 2
                    both = list(range(size))
                    parts = [e.shuffle(x, y, both) for x, y in zip(parts[::2], parts[1::2], strict=True)]
                block.append(parts[0])
            for j, x in enumerate(self._transposed(block)):
                e.store(Value(e, x), buffer, e.b.mul(e.b.add(c, e.int(j)), e.int(e.lanes)))

    def flush(self, buffer, columns, out, ld, spare):
        """The reverse; the last vector's padding becomes 0. Rows that are not there go to spare."""
        e, b = self.e, self.e.b
        rows = [
            b.select(is_, e.at(out, b.mul(r, ld)), spare)
            for is_, r in zip(self.there, self.numbers, strict=True)
        ]
        if self.piece < e.lanes:
            last = b.and_(b.sub(columns, e.int(1)), e.int(-e.lanes))
            for r in rows:
                e.store(e.constant(0.0), r, last)
        with e.loop(columns, self.piece) as c:
            block = [e.load(buffer, b.mul(b.add(c, e.int(j)), e.int(e.lanes))).ir for j in range(self.piece)]
            block = self._transposed(block)
            for i, r in enumerate(rows):
                part = i // self.piece * self.piece
                piece = e.shuffle(block[i % self.piece], block[0], list(range(part, part + self.piece)))
                b.store(piece, b.bitcast(e.at(r, c), self.short), align=e.size)
