#!/usr/bin/env bash
# safetensors 0.8.0 (numpy 2.4.6): safetensors.numpy.save reads an array's memory from its first byte on, whatever its
# strides. A transposed or a strided array comes back with other numbers; nothing is raised. 0.7.0 wrote them in the
# order of their indices, so the same program was right before. The docstring asks for contiguous arrays; nothing checks.
# Seen:
#   safetensors 0.7.0: transposed [[1.0, 3.0], [2.0, 4.0]], every second [0.0, 2.0, 4.0]
#   safetensors 0.8.0: transposed [[1.0, 2.0], [3.0, 4.0]], every second [0.0, 1.0, 2.0]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1
python3 -m venv "$work/venv"
cat >"$work/show.py" <<'PYTHON'
from importlib.metadata import version

import numpy as np
from safetensors.numpy import load, save

transposed = np.array([[1, 2], [3, 4]], np.float32).T  # [[1, 3], [2, 4]]
every_second = np.arange(6, dtype=np.float32)[::2]  # [0, 2, 4]; its memory holds all six
back = load(save({"transposed": transposed, "every_second": every_second}))
print(f"safetensors {version('safetensors')}: transposed {back['transposed'].tolist()}, "
      f"every second {back['every_second'].tolist()}")
PYTHON
for release in 0.7.0 0.8.0; do
    "$work/venv/bin/pip" install -q "safetensors==$release" numpy==2.4.6
    "$work/venv/bin/python" "$work/show.py" | tee -a "$work/seen"
done
diff "$work/seen" - <<'SEEN' && echo "as it was"
safetensors 0.7.0: transposed [[1.0, 3.0], [2.0, 4.0]], every second [0.0, 2.0, 4.0]
safetensors 0.8.0: transposed [[1.0, 2.0], [3.0, 4.0]], every second [0.0, 1.0, 2.0]
SEEN
