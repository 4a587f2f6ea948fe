"""Models as one C99 file that needs nothing, not even math.h: the kernels' own formulas, written as C."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from ..kernels import codes, formulas
from ..kernels.operators import SIGNS, Maths, Operators
from .cnames import check_name, comment, string

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import DTypeLike

    from .model import Model

_HELPERS = {  # of the formulas' maths; {r}: the float type, {i}, {u}: integers of its size; {p}: before names
    "pow2": """\
static {r} {p}pow2({r} n) /* 2**n, n whole */
{{
    union {{ {u} bits; {r} value; }} v;
    v.bits = ({u})(({i})n + {bias}) << {mantissa};
    return v.value;
}}""",
    "nearest": """\
static {r} {p}nearest({r} x) /* the nearest whole number, |x| < 2**30 */
{{
    return x < 0 ? ({r})({i})(x - {half}) : x >= 0 ? ({r})({i})(x + {half}) : 0;
}}""",
    "mantissa_of": """\
static {r} {p}mantissa_of({r} x) /* x = mantissa_of(x) * 2**exponent_of(x), from sqrt(1/2) to sqrt(2) */
{{
    union {{ {r} value; {u} bits; }} v;
    v.value = x;
    v.bits = ((v.bits - {root}) & {field}) + {root};
    return v.value;
}}""",
    "exponent_of": """\
static {r} {p}exponent_of({r} x) /* x > 0 */
{{
    union {{ {r} value; {u} bits; }} v;
    v.value = x;
    return ({r})(({i})(v.bits >> {mantissa}) - ({i})({root} >> {mantissa})
               - ((v.bits & {field}) < ({root} & {field})));
}}""",
    "root_of": """\
static {r} {p}root_of({r} x) /* sqrt(x), by Newton's iteration from above */
{{
    {r} y = x > 1 ? x : 1, next;
    int k;
    if (!(x > 0)) return x;
    for (k = 0; k < 2000; k++) {{
        next = {half} * (y + x / y);
        if (!(next < y)) break;
        y = next;
    }}
    return y;
}}""",
}
_TYPES = {
    np.dtype("f4"): {
        "r": "float", "i": "int32_t", "u": "uint32_t", "bias": "127", "mantissa": "23", "half": "0.5f",
        "root": "0x3F3504F3u", "field": "0x7FFFFFu",
    },
    np.dtype("f8"): {
        "r": "double", "i": "int64_t", "u": "uint64_t", "bias": "1023", "mantissa": "52", "half": "0.5",
        "root": "UINT64_C(0x3FE6A09E667F3BCD)", "field": "UINT64_C(0xFFFFFFFFFFFFF)",
    },
}  # fmt: skip


class _Value(Operators):
    """A C variable or constant: arithmetic on it writes a statement."""

    __slots__ = ("c", "text")

    def __init__(self, c: _Function, text: str) -> None:
        self.c, self.text = c, text

    def apply(self, name: str, *values: Any) -> _Value:
        return self.c.apply(name, *values)


class _Function(Maths):
    """The maths of formulas.py, writing C: the body of one function of a float."""

    lines: list[str]
    helpers: set[str]

    def __init__(self, dtype: DTypeLike, prefix: str = "") -> None:
        self.dtype, self.is64 = np.dtype(dtype), np.dtype(dtype) == np.float64
        self.lines, self.helpers, self.prefix = [], set(), prefix

    def let(self, expression: str) -> _Value:
        name = f"v{len(self.lines)}"
        self.lines.append(f"    const {_TYPES[self.dtype]['r']} {name} = {expression};")
        return _Value(self, name)

    def lift(self, x: Any) -> _Value:
        return x if isinstance(x, _Value) else self.constant(x)

    def text(self, x: Any) -> str:
        return self.lift(x).text

    def apply(self, name: str, *values: Any) -> _Value:
        expression = f" {SIGNS.get(name)} ".join(map(self.text, values))
        if name in ("less", "greater", "equal"):  # for select alone: no float
            return _Value(self, expression)
        return self.let(f"-{expression}" if name == "negative" else expression)

    def helper(self, name: str, x: Any) -> _Value:
        self.helpers.add(name)
        return self.let(f"{self.prefix}{name}({self.text(x)})")

    def constant(self, x: float) -> _Value:
        text = number(x, self.dtype, self.prefix)
        return _Value(self, f"({text})" if text.startswith("-") else text)

    def fma(self, x: Any, y: Any, z: Any) -> _Value:
        return self.let(f"{self.text(x)} * {self.text(y)} + {self.text(z)}")

    def select(self, condition: _Value, x: Any, y: Any) -> _Value:
        return self.let(f"{condition.text} ? {self.text(x)} : {self.text(y)}")

    def abs(self, x: Any) -> _Value:
        return self.let(f"{self.text(x)} < 0 ? -{self.text(x)} : {self.text(x)}")

    def copysign(self, x: Any, sign: Any) -> _Value:
        size = self.abs(x)
        return self.let(f"{self.text(sign)} < 0 ? -{size.text} : {size.text}")

    def round(self, x: Any) -> _Value:
        return self.helper("nearest", x)

    def pow2(self, n: Any) -> _Value:
        return self.helper("pow2", n)

    def split(self, x: Any) -> tuple[_Value, _Value]:
        return self.helper("mantissa_of", x), self.helper("exponent_of", x)

    def sqrt(self, x: Any) -> _Value:
        return self.helper("root_of", x)


def number(x: Any, dtype: DTypeLike, prefix: str = "") -> str:
    """A C constant that reads back as exactly this float; of infinity the macro {prefix}INFINITE."""
    x = float(np.dtype(dtype).type(x))
    if abs(x) == float("inf"):
        return ("-" if x < 0 else "") + f"{prefix}INFINITE"
    text = f"{x:.17g}" if dtype == np.float64 else f"{x:.9g}"
    text = text if "." in text or "e" in text else f"{text}.0"
    return text if dtype == np.float64 else f"{text}f"


def _function(
    name: str, dtype: DTypeLike, formula: Callable[..., Any], prefix: str = ""
) -> tuple[str, set[str]]:
    """(text of static float name(float z), the helpers that it calls, whose names begin with ``prefix``)."""
    f = _Function(dtype, prefix)
    result = formula(f, _Value(f, "z"))
    real = _TYPES[f.dtype]["r"]
    text = [f"static {real} {name}({real} z)", "{", *f.lines, f"    return {f.text(result)};", "}"]
    return "\n".join(text), f.helpers


def _activation(name: str) -> Callable[..., Any]:
    """The formula of an activation, (m, z) -> value."""
    code = codes.ACTIVATIONS[name]
    if code in formulas.ACTIVATION_AND_SLOPE:
        return lambda m, z: formulas.ACTIVATION_AND_SLOPE[code](m, z)[0]
    return formulas.ACTIVATION[code]


def _used(text: str) -> str:
    """A function's text without the statements that nothing reads (slopes, for one)."""
    lines = text.split("\n")
    while True:
        dead = [
            i for i, line in enumerate(lines)
            if (m := re.match(r"    const \w+ (v\d+) = ", line))
            and not any(re.search(rf"\b{m[1]}\b", other) for j, other in enumerate(lines) if j != i)
        ]  # fmt: skip
        if not dead:
            return "\n".join(lines)
        lines = [line for i, line in enumerate(lines) if i not in dead]


def _array(kind: str, name: str, values: Any, dtype: DTypeLike, width: int = 8) -> str:
    """static const float name[] = {...};"""
    texts = [number(v, np.dtype(dtype)) for v in np.ravel(values).tolist()]
    rows = [", ".join(texts[i : i + width]) for i in range(0, len(texts), width)]
    return f"static const {kind} {name}[{len(texts)}] = {{\n    " + ",\n    ".join(rows) + "\n};"


def source(models: Sequence[Model], name: str = "predict") -> str:
    """The text of the file: ``void name(const float *x, float *y)``, one row in, one row out.

    Also NAME_INPUTS, NAME_OUTPUTS, and, for classes, name_classes[] in UTF-8. All names that the file makes
    begin with ``name``, so files of several names go into one program. float for a float32 network, double
    for a float64 one, and for raw x and y where a scaling is stored: a float has no room for a year and its
    days. Of several models, whose inputs are prepared alike, y is the mean. Against ``trainer.predict`` it
    differs by rounding: about 1e-6 of the largest output in float32, 1e-14 in float64. Raises ValueError for
    a name that C or C++ does not take.
    """
    check_name(name)
    models = [model.without_batch_norm() for model in models]
    model, dtype = models[0], models[0].dtype
    prefix, types = f"{name}_", {**_TYPES[dtype], "p": f"{name}_"}
    real = types["r"]
    functions, helpers = {}, set()
    names = {n: None for each in models for n in each.activations}  # in their order
    wanted = {n: _activation(n) for n in names if n in codes.ACTIVATIONS and n != "identity"}
    if model.link in ("softmax", "exp", "gaussian"):
        wanted["exponential"] = formulas.exp
    elif model.link == "sigmoid":
        wanted["sigmoid"] = formulas.sigmoid
    elif model.link == "ordered":
        wanted["softplus"] = _activation("softplus")
    for label, formula in wanted.items():
        functions[label], needs = _function(prefix + label, dtype, formula, prefix)
        helpers |= needs
    parts = [_head(models, name)]
    body = [_used(text) for text in functions.values()]
    if any(f"{prefix}INFINITE" in text for text in body):
        parts.append(f"static const {real} {prefix}zero = 0;\n#define {prefix}INFINITE (1 / {prefix}zero)")
    parts += [_HELPERS[h].format(**types) for h in sorted(helpers)] + body
    for field in ("fill", "mean", "scale", "y_mean", "y_scale", "y_low", "y_high"):
        if getattr(model, field) is not None:
            parts.append(_array("double", prefix + field, getattr(model, field), "f8", 4))
    owns = [name] if len(models) == 1 else [f"{name}_m{i}" for i in range(len(models))]
    for each, own in zip(models, owns, strict=True):
        parts += _weights(each, own, real)
    if model.classes is not None:
        labels = ",\n    ".join(string(str(label)) for label in model.classes)
        parts.append(f"const char *const {name}_classes[{len(model.classes)}] = {{\n    {labels}\n}};")
    parts.append(_layer(name, real))
    if any(norm is not None for each in models for norm in each.norms):
        root = _HELPERS["root_of"].format(**{**_TYPES[np.dtype("f8")], "p": f"{name}_norm_"})
        parts += [root, _norm(name, real)]
    if model.clip is not None:
        parts.append(_clip(name, model.clip))
    if model.tables:
        parts.append(_row(name, real))
    parts += [_main(each, name, own, real) for each, own in zip(models, owns, strict=True)]
    if len(models) > 1:
        parts.append(_mean_of(models, name, owns))
    return "\n\n".join(parts) + "\n"


def _weights(model: Model, own: str, real: str) -> list[str]:
    """The arrays of one network; their names begin with ``own``."""
    dtype = model.dtype
    parts = [_array(real, f"{own}_table{c}", table, dtype) for c, table in model.tables.items()]
    for k, (w, b) in enumerate(model.layers):
        parts += [_array(real, f"{own}_w{k}", w, dtype), _array(real, f"{own}_b{k}", b, dtype)]
        if k < len(model.norms) and model.norms[k] is not None:
            gain, shift = model.norms[k]
            parts += [
                _array(real, f"{own}_gain{k}", gain, dtype),
                _array(real, f"{own}_shift{k}", shift, dtype),
            ]
        if k < len(model.slopes) and model.slopes[k] is not None:
            parts.append(_array(real, f"{own}_slope{k}", model.slopes[k], dtype))
    return parts


def _outer(model: Model) -> tuple[str, str]:
    """The types of x and y: double for raw numbers that are scaled here."""
    real = _TYPES[model.dtype]["r"]
    return "double" if model.takes_raw else real, "double" if model.gives_raw else real


def _head(models: Sequence[Model], name: str) -> str:
    model, lines = models[0], []
    sizes, (raw, result) = model.sizes, _outer(model)
    for each in models:
        lines.append(f"{'-'.join(map(str, each.sizes))}, {', '.join(each.activations) or 'linear'}")
    if len(models) > 1:
        lines = [f"the mean of {len(models)} networks", *(f"  {line}" for line in lines)]
    lines[0] = f"/* {lines[0]}; written by fastbp."
    lines[1:] = [f" * {line}" for line in lines[1:]]
    lines += [
        f" * void {name}(const {raw} *x, {result} *y): x[{sizes[0]}] raw inputs, y[{sizes[-1]}] "
        + ("probabilities" if model.link in ("softmax", "sigmoid") else "outputs")
        + ". Reads and writes nothing else; C99, no library.",
    ]
    if model.inputs is not None:
        lines.append(" * Inputs:")
        lines += [comment(f" *   x[{i}] {label}") for i, label in enumerate(model.inputs)]
    lines += [
        " */", "#include <stdint.h>", "", f"#define {name.upper()}_INPUTS {sizes[0]}",
        f"#define {name.upper()}_OUTPUTS {sizes[-1]}",
    ]  # fmt: skip
    return "\n".join(lines)


def _layer(name: str, real: str) -> str:
    return f"""\
static void {name}_layer(const {real} *x, int inputs, const {real} *w, const {real} *b,
    int outputs, {real} *z)
{{
    int i, j;
    for (j = 0; j < outputs; j++) z[j] = 0;
    for (i = 0; i < inputs; i++)
        for (j = 0; j < outputs; j++) z[j] += x[i] * w[(long)i * outputs + j];
    for (j = 0; j < outputs; j++) z[j] += b[j];
}}"""


def _norm(name: str, real: str) -> str:
    return f"""\
static void {name}_norm({real} *z, int n, const {real} *gain, const {real} *shift)
{{
    double mean = 0, square = 0;
    int i;
    for (i = 0; i < n; i++) mean += z[i];
    mean /= n;
    for (i = 0; i < n; i++) square += (z[i] - mean) * (z[i] - mean);
    square = {name}_norm_root_of(square / n + {codes.NORM_EPS});
    for (i = 0; i < n; i++) z[i] = ({real})((z[i] - mean) / square) * gain[i] + shift[i];
}}"""


def _clip(name: str, limit: float) -> str:
    root = _HELPERS["root_of"].format(**{**_TYPES[np.dtype("f8")], "p": f"{name}_clip_"})
    return (
        root
        + f"""

static double {name}_clip(double x)
{{
    return x / {name}_clip_root_of(1 + x / {limit} * (x / {limit}));
}}"""
    )


def _row(name: str, real: str) -> str:
    """An embedding: a category that is none gives NaN, as the package refuses it."""
    return f"""\
static void {name}_row({real} x, const {real} *table, long rows, int width, {real} *a)
{{
    const {real} zero = 0;
    int i, known = x >= 0 && x < rows && ({real})(long)x == x;
    for (i = 0; i < width; i++) a[i] = known ? table[(long)x * width + i] : zero / zero;
}}"""


def _input(model: Model, name: str, real: str, i: object) -> str:
    """The expression of input i of the network: filled and scaled."""
    x = f"x[{i}]"
    if model.fill is not None:
        x = f"({x} != {x} ? {name}_fill[{i}] : {x})"
    if model.mean is not None:
        x = f"(({x} - {name}_mean[{i}]) / {name}_scale[{i}])"
    if model.clip is not None:
        x = f"{name}_clip({x})"
    return f"({real}){x}" if model.takes_raw else x


def _begun(model: Model, name: str) -> list[str]:
    """The first lines of the function that others call."""
    raw, result = _outer(model)
    declared = f"void {name}(const {raw} *x, {result} *y)"
    return [f"{declared};", "", declared, "{"]


def _main(model: Model, name: str, own: str, real: str) -> str:
    """The function of a network, static where its arrays have a name of their own: it is one of several."""
    sizes, (raw, result) = model.sizes, _outer(model)
    first = len(model.layers[0][0])
    widest = max(first, *sizes[1:])
    lines = _begun(model, name)
    if own != name:
        lines = [f"static void {own}(const {raw} *x, {result} *y)", "{"]
    lines += [f"    {real} a[{widest}], z[{widest}];", "    int i;"]
    if model.tables:
        numeric = model.numeric
        lines += [f"    a[{i}] = {_input(model, name, real, c)};" for i, c in enumerate(numeric)]
        place = len(numeric)
        for c, table in model.tables.items():
            rows, width = table.shape
            x = _input(model, name, real, c)
            lines.append(f"    {name}_row({x}, {own}_table{c}, {rows}, {width}, a + {place});")
            place += width
    else:
        lines.append(f"    for (i = 0; i < {first}; i++) a[i] = {_input(model, name, real, 'i')};")
    for k, (w, b) in enumerate(model.layers):
        lines.append(f"    {name}_layer(a, {len(w)}, {own}_w{k}, {own}_b{k}, {len(b)}, z);")
        if k < len(model.activations):
            if model.norms[k] is not None:
                lines.append(f"    {name}_norm(z, {len(b)}, {own}_gain{k}, {own}_shift{k});")
            activation, sign = model.activations[k], "+=" if model.skips[k] else "="
            value = "z[i]" if activation == "identity" else f"{name}_{activation}(z[i])"
            if model.slopes[k] is not None:
                value = f"z[i] < 0 ? {own}_slope{k}[i] * z[i] : z[i]"
            lines.append(f"    for (i = 0; i < {len(b)}; i++) a[i] {sign} {value};")
    return "\n".join([*lines, *_outputs(model, name), "}"])


def _outputs(model: Model, name: str) -> list[str]:
    """Statements from z, the last layer's outputs, to y."""
    n = model.sizes[-1]
    if model.link == "softmax":
        return [
            "    a[0] = z[0];", f"    for (i = 1; i < {n}; i++) a[0] = z[i] > a[0] ? z[i] : a[0];",
            f"    for (i = 0; i < {n}; i++) y[i] = {name}_exponential(z[i] - a[0]);",
            "    a[0] = 0;", f"    for (i = 0; i < {n}; i++) a[0] += y[i];",
            f"    for (i = 0; i < {n}; i++) y[i] /= a[0];",
        ]  # fmt: skip
    lines, (count, *rises) = [], model.rises
    low, step, floor = (number(x, model.dtype) for x in (*rises, model.floor))
    if model.link == "ordered":
        rise = f"i % {count} ? a[i - 1] + {step} * {name}_softplus(z[i]) : z[i] + {low}"
        lines.append(f"    for (i = 0; i < {n}; i++) a[i] = {rise};")
    value = {
        "sigmoid": f"{name}_sigmoid(z[i])",
        "exp": f"{name}_exponential(z[i])",
        "gaussian": f"i < {n // 2} ? z[i] : {name}_exponential(z[i] < {floor} ? {floor} : z[i])",
        "ordered": "a[i]",
        None: "z[i]",
    }[model.link]
    if model.y_mean is not None:
        value = f"({value}) * {name}_y_scale[i] + {name}_y_mean[i]"
    lines.append(f"    for (i = 0; i < {n}; i++) y[i] = {value};")
    for field, sign in (("y_low", "<"), ("y_high", ">")):
        if getattr(model, field) is not None:
            limit = f"{name}_{field}[i]"
            lines.append(f"    for (i = 0; i < {n}; i++) y[i] = y[i] {sign} {limit} ? {limit} : y[i];")
    return lines


def _mean_of(models: Sequence[Model], name: str, owns: list[str]) -> str:
    """The function that asks each network; of Gaussians y is mean and variance of their mixture."""
    model, count = models[0], len(models)
    _, result = _outer(model)
    n = model.sizes[-1]
    lines = [*_begun(model, name), f"    {result} out[{count}][{n}];", "    double sum;", "    int i, k;"]
    lines += [f"    {own}(x, out[{k}]);" for k, own in enumerate(owns)]
    each = "    for (i = 0; i < {}; i++) {{"
    lines += [
        each.format(n), "        sum = 0;", f"        for (k = 0; k < {count}; k++) sum += out[k][i];",
        f"        y[i] = ({result})(sum / {count});", "    }",
    ]  # fmt: skip
    if model.link == "gaussian":
        apart = "(out[k][i] - y[i])"
        lines += [
            each.format(n // 2), "        sum = 0;",
            f"        for (k = 0; k < {count}; k++) sum += {apart} * {apart};",
            f"        y[i + {n // 2}] += ({result})(sum / {count});", "    }",
        ]  # fmt: skip
    return "\n".join([*lines, "}"])
