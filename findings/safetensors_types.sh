#!/usr/bin/env bash
# safetensors 0.8.0 (numpy 2.4.6), reading and writing through safetensors.numpy:
# - A file may hold BF16 and F8 tensors. numpy has no such types, and get_tensor says so by a TypeError, or an AttributeError
#   about numpy itself; which tensor it was is not said. get_slice(name).get_dtype() tells before.
# - Metadata of several keys are written in any order: the same tensors and metadata give other bytes from one run to the next.
# Seen:
#   BF16: TypeError data type 'bfloat16' not understood
#   F8_E4M3: AttributeError module 'numpy' has no attribute 'float8_e4m3fn'
#   one key: 1 kind of file in 40; four keys: several
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q safetensors==0.8.0 numpy==2.4.6
cat >"$work/show.py" <<'PYTHON'
import json

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

for kind, size in (("BF16", 2), ("F8_E4M3", 1)):
    header = json.dumps({"w": {"dtype": kind, "shape": [2], "data_offsets": [0, 2 * size]}}).encode()
    with open("model", "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header + bytes(2 * size))
    with safe_open("model", "numpy") as file:
        try:
            file.get_tensor("w")
        except Exception as error:
            print(f"{file.get_slice('w').get_dtype()}: {type(error).__name__} {error}")
tensors = {"w": np.zeros(2, np.float32)}
one = {save(tensors, {"a": "1"}) for _ in range(40)}
four = {save(tensors, dict.fromkeys("abcd", "1")) for _ in range(40)}
print(f"one key: {len(one)} kind of file in 40; four keys: {'several' if len(four) > 1 else 1}")
PYTHON
(cd "$work" && venv/bin/python show.py) | tee "$work/seen"
diff "$work/seen" - <<'SEEN' && echo "as it was"
BF16: TypeError data type 'bfloat16' not understood
F8_E4M3: AttributeError module 'numpy' has no attribute 'float8_e4m3fn'
one key: 1 kind of file in 40; four keys: several
SEEN
