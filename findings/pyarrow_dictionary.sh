#!/usr/bin/env bash
# pyarrow 26.0.1: ChunkedArray.to_numpy, which is what a column of a Table has, gives the last category where a dictionary-encoded
# value is missing, without an error. Array.to_numpy(zero_copy_only=False) of the same values gives None, as to_pylist does.
# Seen:
#   pyarrow 26.0.1: Array ['x', None, 'y', None]
#   pyarrow 26.0.1: ChunkedArray ['x', 'y', 'y', 'y']
#   pyarrow 26.0.1: ChunkedArray, decoded ['x', None, 'y', None]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q pyarrow==26.0.1 numpy==2.4.6
"$work/venv/bin/python" - <<'PYTHON' | tee "$work/seen"
import pyarrow as pa

values = pa.array(["x", None, "y", None]).dictionary_encode()
column = pa.table({"k": values})["k"]
for name, found in (
    ("Array", values.to_numpy(zero_copy_only=False)),
    ("ChunkedArray", column.to_numpy()),
    ("ChunkedArray, decoded", column.cast(pa.string()).to_numpy()),
):
    print(f"pyarrow {pa.__version__}: {name} {found.tolist()}")
PYTHON
diff "$work/seen" - <<'SEEN' && echo "as it was"
pyarrow 26.0.1: Array ['x', None, 'y', None]
pyarrow 26.0.1: ChunkedArray ['x', 'y', 'y', 'y']
pyarrow 26.0.1: ChunkedArray, decoded ['x', None, 'y', None]
SEEN
