#!/usr/bin/env bash
# torch 2.13.0: RMSprop(centered=True) writes NaN into float64 weights whose gradient is the same for some thousand steps, as clipping or
# an absolute loss makes it. The variance, the mean square less the square of the mean, is 0 then, to rounding; where it comes out
# below 0, its root is NaN. No error, no warning; the other numbers are torch's defaults.
# Seen:
#   torch 2.13.0: alpha 0.99, gradient 0.004: NaN at step 3187
#   torch 2.13.0: alpha 0.9, gradient 0.1: NaN at step 331
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6
"$work/venv/bin/python" - <<'PYTHON' | tee "$work/seen"
import torch

version = torch.__version__.partition("+")[0]
for alpha, gradient in ((0.99, 0.004), (0.9, 0.1)):
    weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = torch.optim.RMSprop([weight], alpha=alpha, centered=True)
    for step in range(1, 5001):
        weight.grad = torch.full_like(weight, gradient)
        optimizer.step()
        if weight.isnan():
            break
    print(f"torch {version}: alpha {alpha}, gradient {gradient}: {'NaN' if weight.isnan() else 'finite'} at step {step}")
PYTHON
diff "$work/seen" - <<'SEEN' && echo "as it was"
torch 2.13.0: alpha 0.99, gradient 0.004: NaN at step 3187
torch 2.13.0: alpha 0.9, gradient 0.1: NaN at step 331
SEEN
