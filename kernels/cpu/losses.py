"""Losses with their gradients, and links, over rows of outputs; sums of a row.

One normalisation, stated once: row r counts with scale[r] (1/B without sample weights), so the sum
of the row losses is the loss of the batch and delta its exact gradient. Columns past n_out read
from padding and write 0.
"""

from .. import codes, loss_formulas
from .simd import I64, Value, emitted
from .views import PIECE, Across, Block, Down

# Up to so many vectors' worth of columns rows are taken a vector at a time. A function of n_out alone:
# the bits of a row must not depend on the rows around it.
NARROW = 2


def masked_columns(e, n_out, body):
    """body(column, mask of the real lanes) for each vector of a row."""
    with e.loop(n_out, e.lanes) as c:
        body(c, e.lanes_below(e.b.sub(n_out, c)))


LOSS_ROWS = "i i i i p p i p i p p p"


@emitted(LOSS_ROWS, returns="i")
def loss_rows(e, code, rows, n_out, targets, numbers, z, ld, t, ldt, delta, losses, scales):
    """losses = scales loss(z, t) and delta = its gradient, by rows; returns how many are right.

    z, delta (rows, n_out), ld apart; t (rows, targets), ldt apart: the class as a float, or numbers;
    losses, scales (rows,); numbers: the loss's own. Right: the largest output is the class (the largest
    target, if soft), or each output is on its target's side. Rows of weight 0 are never right.
    """
    args = (code, rows, n_out, targets, numbers, z, ld, t, ldt, delta, losses, scales)
    result = e.room(I64)
    with e.b.if_else(e.b.icmp_signed(">=", code, e.int(codes.USER))) as (users, ours):
        with users:
            e.b.store(e.call_address(code, LOSS_ROWS, "i", args), result)
        with ours:
            e.b.store(write_losses(e, loss_formulas.LOSS, *args), result)
    return e.b.load(result)


def write_losses(e, cases, code, rows, n_out, targets, numbers, z, ld, t, ldt, delta, losses, scales):
    """The body of ``loss_rows``; cases: by code, or one loss whatever the code."""
    hits = e.room(I64)
    e.b.store(e.int(0), hits)
    given = (targets, t, ldt, losses, scales, hits)
    _each_view(e, code, cases, rows, n_out, numbers, z, ld, delta, given)
    return e.b.load(hits)


def _each_view(e, code, cases, rows, n_out, numbers, z, ld, delta, given=None):
    """Run the code's case, or the only one, on every view of the rows.

    given: what losses take beside the outputs.
    """
    b = e.b

    def switch(view):
        if callable(cases):
            cases(e, view)
            return
        e.switch(code, {name: (lambda f=f: f(e, view)) for name, f in cases.items()})

    with b.if_else(b.icmp_signed("<=", n_out, e.int(NARROW * e.lanes))) as (narrow, wide):
        with narrow:
            room = e.int(NARROW * e.lanes + PIECE)  # vectors: a piece may reach beyond the columns
            outputs, gradients, wanted = (b.bitcast(e.room(e.vector, room), z.type) for _ in range(3))
            spare = b.bitcast(e.room(e.vector, e.int(NARROW + 1)), z.type)
            for j in range(PIECE - 1):
                e.store(e.constant(0.0), gradients, b.mul(b.add(n_out, e.int(j)), e.int(e.lanes)))
            with e.loop(rows, e.lanes) as r:
                block = Block(e, r, rows)
                block.fetch(z, ld, n_out, outputs)
                view = Down(e, n_out, numbers, outputs, gradients, e.lanes_below(b.sub(rows, r)))
                if given:
                    targets, t, ldt, losses, scales, hits = given
                    block.fetch(t, ldt, targets, wanted)
                    view.weigh(wanted, e.at(losses, r), e.at(scales, r), hits)
                switch(view)
                block.flush(gradients, n_out, delta, ld, spare)
        with wide, e.loop(rows) as r:
            at = b.mul(r, ld)
            view = Across(e, n_out, numbers, e.at(z, at), e.at(delta, at))
            if given:
                _, t, ldt, losses, scales, hits = given
                view.weigh(e.at(t, b.mul(r, ldt)), e.at(losses, r), e.at(scales, r), hits)
            switch(view)


@emitted("i i i p p i p p i")
def link_rows(e, code, rows, n_out, numbers, z, ld, buffer, out, ldo):
    """out = the probabilities or values that outputs z stand for, by rows; out has no padding.

    By loss_formulas.LINK, z itself for a loss that is not there; numbers: the loss's own. z, buffer (rows,
    n_out), ld apart; out (rows, n_out), ldo apart; overwrites buffer.
    """
    linked = Value(e, e.b.icmp_signed("==", e.int(0), e.int(1)))
    for name in loss_formulas.LINK:
        linked = linked | Value(e, e.b.icmp_signed("==", code, e.int(name)))
    with e.b.if_then(linked.ir):
        _each_view(e, code, loss_formulas.LINK, rows, n_out, numbers, z, ld, buffer)
    source = e.b.select(linked.ir, buffer, z)
    with e.loop(rows) as r:
        row, place = e.at(source, e.b.mul(r, ld)), e.at(out, e.b.mul(r, ldo))
        masked_columns(e, n_out, lambda c, mask: e.masked_store(e.load(row, c), e.at(place, c), mask))


@emitted("i p p")
def sum_row(e, count, x, out):
    """out[0] = x[0] + ... + x[count - 1]: lane by lane, then the lanes by halves."""
    total, set_total = e.cell(e.constant(0.0))
    masked_columns(e, count, lambda c, mask: set_total(total() + e.select(mask, e.load(x, c), 0.0)))
    e.b.store(e.first(e.sum(total())), out)


@emitted("i p p")
def square_sum_row(e, count, x, out):
    """out[0] = x[0]**2 + ... + x[count - 1]**2, in the order of sum_row."""
    total, set_total = e.cell(e.constant(0.0))

    def body(c, mask):
        y = e.select(mask, e.load(x, c), 0.0)
        set_total(e.fma(y, y, total()))

    masked_columns(e, count, body)
    e.b.store(e.first(e.sum(total())), out)
