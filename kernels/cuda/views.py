"""A row of outputs as loss_formulas.py sees it: the columns of a row dealt out over a group of threads.

The GPU's twin of cpu/views.py: it writes the loops, and meets the group in shared memory for sums and
largest values, so every thread of the block runs every line; rows that are not there have no columns.
"""

from .. import codes
from .scalar import Name, Writer, choice, compiled, decorate

# of the functions that are written here; tuples are taken apart in their first lines
ARGUMENTS = ["mem", "shared", "threads", "width", "count", "places", "row_weight"]


class Row:
    """One row; what its methods mean is said in loss_formulas.py."""

    def __init__(self, m):
        self.m, self.loops = m, 0

    @property
    def outputs(self):
        return self.m.line("real(count)")

    @property
    def label(self):
        return self.m.line("mem[t_row]")

    def _loop(self, body, end="width"):
        m, c = self.m, Name(self.m, f"c{self.loops}")
        self.loops += 1
        m.say(f"for {c.text} in range(tid % group, {end}, group):")
        m.level += 1
        body(c)
        m.say("pass")
        m.level -= 1

    def each(self, body):
        self._loop(body)

    def columns(self, c):
        return self.m.line(f"real({c.text})")

    def z(self, c):
        return self.m.line(f"mem[z_row + {c.text}]")

    def t(self, c):
        return self.m.line(f"mem[t_row + {c.text}]")

    def keep(self, c, x):
        self.m.say(f"mem[out + {c.text}] = {self.m.text(x)}")

    set = keep

    def kept(self, c):
        return self.m.line(f"mem[out + {c.text}]")

    def put(self, c, x):
        self.m.say(f"mem[out + {c.text}] = {self.m.text(x)} * row_weight")

    def cumulate(self, backwards=False):
        """By one thread of the group."""
        say, level = self.m.say, self.m.level
        vector, steps = (
            f"mem[numbers + {codes.LOSS_SCALARS} + c]",
            "width - 1, -1, -1" if backwards else "width",
        )
        after, before = (f"        sum = zero if {vector} < zero else sum" if here else None
                         for here in (backwards, not backwards))  # fmt: skip
        lines = ["meet()", "if tid % group == 0:", "    sum = zero", f"    for c in range({steps}):", before,
                 "        sum += mem[out + c]", "        mem[out + c] = sum", after, "meet()"]  # fmt: skip
        for line in filter(None, lines):
            say(line)
        assert level == self.m.level

    def number(self, i):
        return self.m.line(f"mem[numbers + {i}]")

    def vector(self, c):
        return self.m.line(f"mem[numbers + {codes.LOSS_SCALARS} + {c.text}]")

    def z_at(self, n):
        return self.m.line(f"mem[z_row + int({n.text})]")

    def vector_at(self, n):
        return self.m.line(f"mem[numbers + {codes.LOSS_SCALARS} + int({n.text})]")

    def _sums(self, n, body, end):
        m = self.m
        totals = [m.line("zero") for _ in range(n)]

        def add(c):
            for total, value in zip(totals, body(c), strict=True):
                m.say(f"{total.text} += {m.text(value)}")

        self._loop(add, end)
        return [m.line(f"fold_sum(shared, tid, group, {t.text})") for t in totals]

    def sums(self, n, body):
        return self._sums(n, body, "width")

    def weight(self, c):
        return self.m.line(f"mem[t_row + count + {c.text}]")

    def halves(self, body, *more):
        half = self.m.line("width // 2").text

        def one(c):
            other = Name(self.m, f"({half} + {c.text})")
            loss, first, second = body(self.z(c), self.z(other), self.t(c), *(f(c) for f in more))
            self.put(c, first)
            self.put(other, second)
            return (loss,)

        return self._sums(1, one, half)[0]

    def top(self, values):
        m = self.m
        top = m.line("least")

        def larger(c):
            x = values(c)
            m.say(f"{top.text} = {x.text} if {x.text} > {top.text} else {top.text}")

        self._loop(larger)
        best = m.line(f"fold_largest(shared, tid, group, {top.text})")
        place = m.line("-real(count)")

        def first(c):
            x = values(c)
            m.say(f"if {x.text} == {best.text} and -real({c.text}) > {place.text}:")
            m.say(f"    {place.text} = -real({c.text})")

        self._loop(first)
        return best, m.line(f"-fold_largest(shared, tid, group, {place.text})")

    def finish(self, loss):
        self.m.say(f"value = {self.m.text(loss)} * row_weight")

    def right(self, mask):
        self.m.say(f"hits = 1 if {mask.text} else 0")

    def right_each(self, c, mask):
        self.m.say(f"right += {self.m.constant(1.0).text} if {mask.text} else zero")


def row_functions(name, table, returns, namespace):
    """def name(code, arguments): what a table of losses or links does to a row; see Row."""
    cases = {}
    for code, formula in table.items():
        m = Writer(namespace, namespace["dtype"])
        m.level = 1
        formula(m, Row(m))
        cases[code] = f"{name}_{code}"
        head = [f"def {name}_{code}({', '.join(ARGUMENTS)}):", "    tid, group = threads",
                "    z_row, t_row, out, numbers = places",
                "    value, hits, right = zero, 0, zero"]  # fmt: skip
        source = "\n".join([*head, *m.lines, f"    return {returns}"]) + "\n"
        compiled(source, namespace, [f"{name}_{code}"])
        decorate(namespace, f"{name}_{code}")
    choice(name, ARGUMENTS, cases, returns.replace("value", "zero").replace("hits", "0")
            .replace("right", "zero"), namespace)  # fmt: skip
