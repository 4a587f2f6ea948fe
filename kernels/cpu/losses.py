"""Losses with their gradients, and links, over rows of outputs; sums of a row.

One normalisation, stated once: row r counts with scale[r] (1/B without sample weights), so the sum
of the row losses is the loss of the batch and delta its exact gradient. Columns past n_out read
from padding and write 0.
"""

from typing import NamedTuple

from .. import codes, loss_formulas
from .simd import I64, Value, emitted
from .views import PIECE, Across, Block, Down

# Up to so many vectors' worth of columns rows are taken a vector at a time. A function of n_out alone:
# the bits of a row must not depend on the rows around it.
DOWN_VECTORS = 2


def masked_columns(e, n_out, body):
    """body(column, mask of the real lanes) for each vector of a row."""
    with e.loop(n_out, e.lanes) as c:
        body(c, e.lanes_below(e.b.sub(n_out, c)))


class Rows(NamedTuple):
    """Rows of outputs under construction: what losses and links read, and where they write."""

    code: object
    count: object
    outputs: object
    numbers: object
    z: object
    delta: object


LOSS_ROWS = "i i i p m t p w"


@emitted(LOSS_ROWS, returns="i")
def loss_rows(e, code, rows, outputs, numbers, z, targets, delta, sums):
    """sums.losses = sums.scales loss(z, t) and delta = its gradient, by rows; returns how many are right.

    z (rows, outputs), delta laid out as z; targets: the class as a float, or numbers; numbers: the loss's
    own. Right: the largest output is the class (the largest target, if soft), or each output is on its
    target's side. Rows of weight 0 are never right. A code from codes.USER on is the address of such a
    function, compiled apart: the user's, or one whose outputs have weights.
    """
    args = (code, rows, outputs, numbers, z, targets, delta, sums)
    result = e.room(I64)
    with e.b.if_else(e.b.icmp_signed(">=", code, e.int(codes.USER))) as (users, ours):
        with users:
            e.b.store(e.call_address(code, LOSS_ROWS, "i", args), result)
        with ours:
            e.b.store(write_losses(e, loss_formulas.LOSS, args), result)
    return e.b.load(result)


def write_losses(e, cases, arguments, weighed=False):
    """The body of ``loss_rows``, given its arguments; cases: by code, or one loss whatever the code.

    weighed: whether an output's weight stands n_out numbers behind its target.
    """
    code, rows, outputs, numbers, z, targets, delta, sums = arguments
    hits = e.room(I64)
    e.b.store(e.int(0), hits)
    _each_view(e, cases, Rows(code, rows, outputs, numbers, z, delta), targets, sums, hits, 1 + weighed)
    return e.b.load(hits)


def _each_view(e, cases, rows, targets=None, sums=None, hits=None, size=1):
    """Run the code's case, or the only one, on every view of the rows.

    targets, sums, hits: what losses take beside the outputs; size: of a target, in outputs.
    """
    b, (_, count, n_out, numbers, z, delta) = e.b, rows

    def switch(view):
        if callable(cases):
            cases(e, view)
            return
        e.switch(rows.code, {name: (lambda f=f: f(e, view)) for name, f in cases.items()})

    with b.if_else(b.icmp_signed("<=", n_out, e.int(DOWN_VECTORS * e.lanes))) as (narrow, wide):
        with narrow:
            # vectors: a piece may reach beyond the columns
            rooms = [e.int(times * DOWN_VECTORS * e.lanes + PIECE) for times in (1, 1, size)]
            outputs, gradients, wanted = (b.bitcast(e.room(e.vector, room), delta.type) for room in rooms)
            spare = b.bitcast(e.room(e.vector, e.int(DOWN_VECTORS + 1)), delta.type)
            for j in range(PIECE - 1):
                e.store(e.constant(0.0), gradients, b.mul(b.add(n_out, e.int(j)), e.int(e.lanes)))
            with e.loop(count, e.lanes) as r:
                block = Block(e, r, count)
                block.fetch(z.pointer, z.stride, n_out, outputs)
                view = Down(e, n_out, numbers, outputs, gradients, e.lanes_below(b.sub(count, r)))
                if targets:
                    block.fetch(targets.pointer, targets.stride, targets.count, wanted)
                    view.weigh(wanted, e.at(sums.losses, r), e.at(sums.scales, r), hits)
                switch(view)
                block.flush(gradients, n_out, delta, z.stride, spare)
        with wide, e.loop(count) as r:
            at = b.mul(r, z.stride)
            view = Across(e, n_out, numbers, e.at(z.pointer, at), e.at(delta, at))
            if targets:
                t = e.at(targets.pointer, b.mul(r, targets.stride))
                view.weigh(t, e.at(sums.losses, r), e.at(sums.scales, r), hits)
            switch(view)


@emitted("i i i p m p m")
def link_rows(e, code, rows, outputs, numbers, z, buffer, out):
    """out = the probabilities or values that outputs z stand for, by rows; out has no padding.

    By loss_formulas.LINK, z itself for a loss that is not there; numbers: the loss's own. z (rows, outputs),
    buffer laid out as z; overwrites buffer.
    """
    linked = Value(e, e.b.icmp_signed("==", e.int(0), e.int(1)))
    for name in loss_formulas.LINK:
        linked = linked | Value(e, e.b.icmp_signed("==", code, e.int(name)))
    with e.b.if_then(linked.ir):
        _each_view(e, loss_formulas.LINK, Rows(code, rows, outputs, numbers, z, buffer))
    source = e.b.select(linked.ir, buffer, z.pointer)
    with e.loop(rows) as r:
        row, place = e.at(source, e.b.mul(r, z.stride)), e.at(out.pointer, e.b.mul(r, out.stride))
        masked_columns(e, outputs, lambda c, mask: e.masked_store(e.load(row, c), e.at(place, c), mask))


SUM_VECTORS = 1024  # of a row that are added one by one; sums of so many are added then


@emitted("i p p")
def sum_row(e, count, x, out):
    """out[0] = x[0] + ... + x[count - 1]: lane by lane, SUM_VECTORS at a time, then the lanes by halves."""
    whole, set_whole = e.cell(e.constant(-0.0))  # what adds to a number, 0 too, without a change
    with e.loop(count, SUM_VECTORS * e.lanes) as begin:
        total, set_total = e.cell(e.constant(0.0))
        left = e.least(e.b.sub(count, begin), SUM_VECTORS * e.lanes)
        part = e.at(x, begin)
        masked_columns(e, left, lambda c, mask: set_total(total() + e.select(mask, e.load(part, c), 0.0)))
        set_whole(whole() + total())
    e.b.store(e.first(e.sum(whole())), out)


@emitted("i p p r")
def square_sum_row(e, count, x, out, factor):
    """out[0] = (factor x[0])**2 + ... + (factor x[count - 1])**2, in the order of sum_row."""
    total, set_total = e.cell(e.constant(0.0))
    factor = e.splat(factor)

    def body(c, mask):
        y = e.select(mask, e.load(x, c) * factor, 0.0)
        set_total(e.fma(y, y, total()))

    masked_columns(e, count, body)
    e.b.store(e.first(e.sum(total())), out)


@emitted("i p", returns="i")
def broken_row(e, count, x):
    """1 if a number of x[:count] is not finite, else 0."""
    total, set_total = e.cell(e.constant(0.0))  # 0, or NaN
    masked_columns(
        e, count, lambda c, mask: set_total(e.fma(e.select(mask, e.load(x, c), 0.0), 0.0, total()))
    )
    return e.b.zext(e.b.icmp_signed("!=", e.count(~(total() == total())), e.int(0)), I64)
