#!/usr/bin/env bash
# numba 0.68.1 (numpy 2.4.6): x ** n of a float64 and an int64 in a compiled function multiplies its way to the power by
# squaring. Python, NumPy, and the same function with a float exponent call the C library's pow, which is right to the last
# bit or so. So one line of Python has two results: they differ from n = 4 on, and by thousands of units in the last place
# for large n. Bias corrections 1 - beta ** t of optimizers are such a line: beside a Python or NumPy oracle they differ.
# Seen:
#   numba 0.68.1: 0.999 ** 1000: int64 0x1.788526411edacp-2, float64 0x1.788526411ed72p-2, Python 0x1.788526411ed72p-2
#   numba 0.68.1: 1.001 ** 65477: 10666 units in the last place apart
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q numba==0.68.1 numpy==2.4.6
cat >"$work/show.py" <<'PYTHON'
import math

import numba


@numba.njit
def power(x, n):
    return x**n


def show(x, n):
    return f"int64 {power(x, n).hex()}, float64 {power(x, float(n)).hex()}, Python {(x**n).hex()}"


apart = abs(power(1.001, 65477) - 1.001**65477) / math.ulp(1.001**65477)
print(f"numba {numba.__version__}: 0.999 ** 1000: {show(0.999, 1000)}")
print(f"numba {numba.__version__}: 1.001 ** 65477: {apart:.0f} units in the last place apart")
PYTHON
"$work/venv/bin/python" "$work/show.py" | tee "$work/seen"
grep -qF 'int64 0x1.788526411edacp-2, float64 0x1.788526411ed72p-2, Python 0x1.788526411ed72p-2' "$work/seen"
awk '/65477/ { found = $6 > 1000 } END { exit !found }' "$work/seen" && echo "as it was"
