"""What is compiled apart from the program, when it is asked for: functions by their definitions.

A definition of the user's scalar function has a list of nodes, evaluated by any device's maths. A node is
(operation, operand, ...): operands are numbers of earlier nodes, for "input" the argument's number, for
"constant" the value. fastbp/custom/tracing.py makes them from Python functions. In their place there may be
the code of a loss of ours, whose outputs have weights, or of one with a link, to pull gradients through it.
"""

from math import inf, nan

from . import formulas, loss_formulas


def _log(m, x):
    least = 2.2250738585072014e-308 if m.is64 else 1.1754943508222875e-38  # no denormals: they count as 0
    y = formulas.log_(m, m.maximum(x, least))
    return m.select(x < 0.0, nan, m.select(x < least, -inf, y))


def _log1p(m, x):
    u = x + 1.0
    y = _log(m, u) + m.select(m.abs(x) < 1.0, (x - (u - 1.0)) / u, 0.0)
    return m.select(u > 0.0, y, _log(m, u))


def _expm1(m, x):
    return m.select(x > 0.0, _expm1_positive(m, x), formulas.expm1_negative(m, m.minimum(x, 0.0)))


def _expm1_positive(m, x):
    """exp(x) - 1 = -exp(x) expm1(-x) for x > 0."""
    large = formulas.exp(m, x)
    small = m.minimum(x, 1.0)
    near = -formulas.expm1_negative(m, -small) * formulas.exp(m, small)
    return m.select(x > 1.0, large - 1.0, near)


def _sinh(m, x):
    u = _expm1(m, m.abs(x))
    half = m.select(u < inf, (u + u / (u + 1.0)) * 0.5, u)
    return m.copysign(half, x)


def _cosh(m, x):
    e = formulas.exp(m, m.abs(x))
    return (e + 1.0 / e) * 0.5


def _power(m, x, exponent):
    """x**exponent, x >= 0, by logarithms: the relative error grows with abs(exponent log x)."""
    y = formulas.exp(m, exponent * _log(m, x))
    return m.select(x == 0.0, m.select(exponent > 0.0, 0.0, m.constant(inf)), y)


def _erf(m, x):
    """2 Phi(sqrt(2) x) - 1: small absolute errors, near 0 not small relative ones."""
    return formulas.normal(m, x * 2**0.5)[0] * 2.0 - 1.0


OPERATIONS = {  # what they mean: NumPy's functions of these names, and fastbp.math's
    "add": lambda m, x, y: x + y,
    "subtract": lambda m, x, y: x - y,
    "multiply": lambda m, x, y: x * y,
    "divide": lambda m, x, y: x / y,
    "negative": lambda m, x: -x,
    "absolute": lambda m, x: m.abs(x),
    "sqrt": lambda m, x: m.sqrt(x),
    "exp": formulas.exp,
    "expm1": _expm1,
    "log": _log,
    "log1p": _log1p,
    "tanh": formulas.tanh,
    "sigmoid": formulas.sigmoid,
    "softplus": lambda m, x: m.maximum(x, 0.0) + formulas.log1p_unit(m, formulas.exp(m, -m.abs(x))),
    "power": _power,
    "sinh": _sinh,
    "cosh": _cosh,
    "sin": lambda m, x: formulas.sine(m, x)[0],
    "cos": lambda m, x: formulas.sine(m, x)[1],
    "erf": _erf,
    "less": lambda m, x, y: x < y,
    "greater": lambda m, x, y: x > y,
    "equal": lambda m, x, y: x == y,
    "and": lambda m, x, y: x & y,
    "or": lambda m, x, y: x | y,
    "not": lambda m, x: ~x,
    "where": lambda m, mask, x, y: m.select(mask, x, y),
}


def evaluate(m, nodes, wanted, inputs):
    """The values of the nodes ``wanted`` for the device's maths m; inputs: one value for each argument."""
    values = []
    for name, *operands in nodes:
        if name == "input":
            values.append(inputs[operands[0]])
        elif name == "constant":
            values.append(m.constant(operands[0]))
        else:
            values.append(OPERATIONS[name](m, *(values[i] for i in operands)))
    return tuple(values[i] for i in wanted)


def loss_of(definition):
    """The loss (m, v) of a definition, see loss_formulas.py."""
    weighed = definition.get("weighed", False)
    if "pull" in definition:
        return loss_formulas.PULL[definition["pull"]]
    if "code" in definition:
        return loss_formulas.WEIGHED[definition["code"]]

    def formula(m, z, t):
        return evaluate(m, definition["nodes"], definition["wanted"], [z, t])

    return loss_formulas.mean_over_outputs(formula, weighed=weighed)
