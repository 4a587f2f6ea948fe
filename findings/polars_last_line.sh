#!/usr/bin/env bash
# polars 2.1.0: read_csv refuses a line with more fields than the header, with truncate_ragged_lines=False, its
# default. A last line that ends in one empty field too many and has no newline behind it is taken all the same; the same
# line with a newline, or with two empty fields, or with a number in the field, raises ComputeError.
# Seen:
#   polars 2.1.0: '3,4,' [(1, 2), (3, 4)]
#   polars 2.1.0: '3,4,\n' ComputeError
#   polars 2.1.0: '3,4,,' ComputeError
#   polars 2.1.0: '3,4,5' ComputeError
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q polars==2.1.0
"$work/venv/bin/python" - <<'PYTHON' | tee "$work/seen"
import io

import polars as pl

for last in ("3,4,", "3,4,\n", "3,4,,", "3,4,5"):
    try:
        result = pl.read_csv(io.StringIO("a,b\n1,2\n" + last)).rows()
    except pl.exceptions.ComputeError as error:
        result = type(error).__name__
    print(f"polars {pl.__version__}: {last!r} {result}")
PYTHON
diff "$work/seen" - <<'SEEN' && echo "as it was"
polars 2.1.0: '3,4,' [(1, 2), (3, 4)]
polars 2.1.0: '3,4,\n' ComputeError
polars 2.1.0: '3,4,,' ComputeError
polars 2.1.0: '3,4,5' ComputeError
SEEN
