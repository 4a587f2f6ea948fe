"""Formulas as scalar device functions: the maths ``m`` of formulas.py that writes Python source.

Each formula becomes straight-line code with one operation a line and typed constants, and the
dictionaries of formulas.py become functions that choose by code: what is added there is here too.
The same source runs in the simulator and in the compiler.
"""

import re

import numpy as np

from .. import codes, formulas
from ..operators import SIGNS, Maths, Operators
from .device import SIMULATED, device, load1, maths, store1

LOGICAL = {"and": "and", "or": "or", "xor": "!="}  # of conditions


class Name(Operators):
    """A value of the function that is being written: the name of a local variable."""

    __slots__ = ("m", "text")

    def __init__(self, m, text):
        self.m, self.text = m, text

    def apply(self, name, *values):
        return self.m.apply(name, *values)


class Bits(Name):
    """A whole number: the bits of a float."""

    def apply(self, name, x, y):
        return Bits(self.m, f"({_plain(x)} {SIGNS[name]} {_plain(y)})")


class Word(Name):
    """32 bits without a sign, that wrap; the namespace's ``word`` makes one of a whole number."""

    def apply(self, name, x, y):
        return Word(self.m, self.m.line(f"word({_plain(x)} {SIGNS[name]} {_plain(y)})").text)


def _plain(x):
    return getattr(x, "text", x)


class Writer(Maths):
    """The maths of formulas.py: every operation a line of source; constants are globals of the dtype."""

    def __init__(self, namespace, dtype, prefix="v"):
        self.namespace, self.dtype, self.prefix, self.lines = namespace, dtype, prefix, []
        self.is64, self.level, self.count = dtype == np.float64, 0, 0

    def say(self, text):
        """A line that gives nothing a name."""
        self.lines.append("    " * self.level + text)

    def line(self, text):
        name = f"{self.prefix}{self.count}"
        self.count += 1
        self.say(f"{name} = {text}")
        return Name(self, name)

    def apply(self, name, *values):
        texts = [self.text(v) for v in values]
        if name in ("negative", "not"):
            return self.line(f"{'-' if name == 'negative' else 'not '}{texts[0]}")
        return self.line(f" {LOGICAL.get(name) or SIGNS[name]} ".join(texts))

    def text(self, x):
        return x.text if isinstance(x, Name) else self.constant(x).text

    def constant(self, x):
        known = self.namespace.setdefault("_constants", {})
        name = known.setdefault(float(x), f"K{len(known)}")
        self.namespace[name] = self.dtype.type(x)
        return Name(self, name)

    def lift(self, x):
        return x if isinstance(x, Name) else self.constant(x)

    def fma(self, x, y, z):
        return self.line(f"fma({self.text(x)}, {self.text(y)}, {self.text(z)})")

    def select(self, mask, x, y):
        return self.line(f"{self.text(x)} if {mask.text} else {self.text(y)}")

    def abs(self, x):
        return self.line(f"abs({self.text(x)})")

    def sqrt(self, x):
        return self.line(f"sqrt({self.text(x)})")

    def round(self, x):
        return self.line(f"rint({self.text(x)})")

    def copysign(self, x, sign):
        return self.line(f"copysign({self.text(x)}, {self.text(sign)})")

    def bits(self, x):
        return Bits(self, self.line(f"bits({self.text(x)})").text)

    def from_bits(self, n):
        return self.line(f"from_bits({n.text})")

    def shift_right(self, n, by):
        """Of a float's bits, its sign not set."""
        return Bits(self, f"({n.text} >> {by})")

    def pow2(self, n):
        """2**n for a whole number in the exponent's range."""
        bias, mantissa, whole = (1023, 52, "int64") if self.is64 else (127, 23, "int32")
        return self.line(f"from_bits(({whole}({self.text(n)}) + {bias}) << {mantissa})")

    def split(self, x):
        """x = mantissa * 2**exponent, mantissa in [sqrt(1/2), sqrt(2))."""
        half_root, mantissa = (0x3FE6A09E667F3BCD, 52) if self.is64 else (0x3F3504F3, 23)
        bits = self.line(f"bits({self.text(x)})").text
        exponent = self.line(f"({bits} - {half_root}) >> {mantissa}").text
        return (
            self.line(f"from_bits({bits} - ({exponent} << {mantissa}))"),
            self.line(f"real({exponent})"),
        )


def _plain_word(x):
    return int(x) & 0xFFFFFFFF


def compiled(source, namespace, names):
    """Run ``source`` in a namespace, where its functions then are."""
    exec(compile(source, __file__, "exec"), namespace)
    return [namespace[name] for name in names]


def function(name, arguments, write, namespace, dtype, kind=Name):
    """Write the device function ``name`` from write(m, *arguments); returns the name."""
    m = Writer(namespace, dtype)
    results = write(m, *(kind(m, a) for a in arguments))
    results = results if isinstance(results, tuple) else (results,)
    lines = [*m.lines, f"return {', '.join(m.text(r) for r in results)}"]
    source = f"def {name}({', '.join(arguments)}):\n" + "".join(f"    {line}\n" for line in lines)
    compiled(source, namespace, [name])
    decorate(namespace, name)
    return name


def decorate(namespace, name):
    if not SIMULATED:  # these call nothing that the simulator would have to swap, so stay plain there
        namespace[name] = device(namespace[name])


def choice(name, arguments, cases, otherwise, namespace):
    """def name(code, arguments): the case of the code."""
    given = ", ".join(arguments)
    lines = [f"def {name}(code, {given}):"]
    for code, function in cases.items():
        lines += [f"    if code == {code}:", f"        return {function}({given})"]
    compiled("\n".join([*lines, f"    return {otherwise}\n"]), namespace, [name])
    decorate(namespace, name)


def _update(namespace, dtype):
    """def update(code, g, mem, table, at, slots, stride, c): what the weight tile's epilogue does.

    mem: the arena; the weight lies at ``at``, slot k at slots + k * stride, the constants at c. What the
    variants add to a rule is written once, in front of all rules, not once a rule as on the CPU. A gradient
    or a new weight that is not finite is noted in the table.
    """
    lines = ["def update(code, g, mem, table, at, slots, stride, c):", f"    if code == {codes.STORE}:",
             "        store1(mem, slots, g)", "        return", f"    if code == {codes.ADD}:",
             "        store1(mem, slots, load1(mem, slots) + g)", "        return",
             "    p, given = load1(mem, at), g"]  # fmt: skip

    zero = Writer(namespace, dtype).constant(0.0).text

    def traced(prefix, formula, level, finish):
        """The lines of a formula and of what ``finish`` makes of its results; constants loaded first."""
        m = Writer(namespace, dtype, prefix)
        constants = formulas.AnyDecay(Name(m, f"c{k}") for k in range(codes.CONSTANTS))
        after = finish(m, formula(m, Name(m, "g"), Name(m, "p"), constants))
        body = [*m.lines, *after]
        used = [k for k in range(codes.CONSTANTS) if re.search(rf"\bc{k}\b", " ".join(body))]
        loads = [f"c{k} = load1(mem, c + {k})" for k in used]
        lines.extend("    " * level + line for line in (*loads, *body))

    lines.append(f"    if code >= {codes.FULL}:")
    traced("f", formulas.limit, 2, lambda m, g: [f"g = {g.text}"])
    lines.append(f"    if code >= {codes.DECAY}:")
    traced("d", formulas.decay, 2, lambda m, both: [f"g, p = {both[0].text}, {both[1].text}"])
    lines.append(f"    rule = code % {codes.RULES}")
    for number, (code, rule) in enumerate(formulas.RULES.items()):
        count = codes.SLOTS[code]
        lines.append(f"    {'el' if number else ''}if rule == {code}:")
        lines += [f"        s{k} = load1(mem, slots + {k} * stride)" for k in range(count)]

        def formula(m, g, p, constants, rule=rule, count=count):
            return rule(m, g, p, [Name(m, f"s{k}") for k in range(count)], constants)

        def stores(m, results):
            states = [f"store1(mem, slots + {k} * stride, {s.text})" for k, s in enumerate(results[1])]
            return [f"store1(mem, at, {results[0].text})", *states, f"p = {results[0].text}"]

        traced(f"v{code}_", formula, 2, stores)
    lines.append(f"    if given - given != {zero} or p - p != {zero}:")
    lines.append(f"        store1(table, {codes.G_BROKEN}, 1)")
    compiled("\n".join(lines) + "\n", namespace, ["update"])
    decorate(namespace, "update")


def _activate_both(namespace):
    """def activate_both(code, z) -> (a, f'), for any activation."""
    stored = " or ".join(f"code == {c}" for c in formulas.ACTIVATION_AND_SLOPE)
    lines = ["def activate_both(code, z):", f"    if {stored}:", "        return activate_stored(code, z)",
             "    a = activate(code, z)", "    return a, slope(code, a)"]  # fmt: skip
    compiled("\n".join(lines) + "\n", namespace, ["activate_both"])
    decorate(namespace, "activate_both")


def _random(namespace, dtype):
    """def row_keys(seed, step, place, row) -> (first, second); def random_bits(first, second, column)."""

    def chained(m, *words):
        keys = [Word(m, f"word({key})") for key in formulas.KEYS]
        for word in words:
            keys = [formulas.chain(key, word) for key in keys]
        return tuple(keys)

    words = ["seed", "high_seed", "step", "high_step", "place", "row"]
    function("chained_keys", words, chained, namespace, dtype, Word)
    function("random_bits", ["first", "second", "column"], lambda m, *w: formulas.random_bits(*w), namespace,
             dtype, Word)  # fmt: skip
    source = (
        "def row_keys(seed, step, place, row):\n"
        "    return chained_keys(word(seed), word(seed >> 32), word(step), word(step >> 32), word(place),\n"
        "                        word(row))\n"
    )
    compiled(source, namespace, ["row_keys"])
    decorate(namespace, "row_keys")


def functions(dtype):
    """A namespace with the formulas of one numpy dtype as device functions.

    activate(code, z); activate_stored(code, z) -> (a, f'); slope(code, a); activate_both(code, z) ->
    (a, f'); update(code, ...); row_keys(seed, step, place, row); random_bits(first, second, column).
    """
    dtype = np.dtype(dtype)
    namespace = {"np": np, "abs": abs, "int32": np.int32, "int64": np.int64, "int": int, "real": dtype.type,
                 "word": _plain_word if SIMULATED else np.uint32, "load1": load1, "store1": store1,
                 **maths(dtype)}  # fmt: skip
    zero = Writer(namespace, dtype).constant(0.0).text
    tables = (
        ("activate", ["z"], formulas.ACTIVATION, "z"),
        ("activate_stored", ["z"], formulas.ACTIVATION_AND_SLOPE, f"z, {zero}"),
        ("slope", ["a"], formulas.SLOPE, Writer(namespace, dtype).constant(1.0).text),
    )
    for name, arguments, table, otherwise in tables:
        cases = {
            code: function(f"{name}_{code}", arguments, formula, namespace, dtype)
            for code, formula in table.items()
        }
        choice(name, arguments, cases, otherwise, namespace)
    function("prelu", ["z", "slope"], formulas.prelu, namespace, dtype)
    function("average", ["mean", "p", "share"], formulas.average, namespace, dtype)
    _activate_both(namespace)
    _update(namespace, dtype)
    _random(namespace, dtype)
    return namespace
