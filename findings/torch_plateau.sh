#!/usr/bin/env bash
# torch 2.13.0: lr_scheduler.ReduceLROnPlateau with its defaults (mode="min", threshold_mode="rel", threshold=1e-4) never lowers the
# rate where the metric is negative and does not move at all: a value counts as better if it is below best * (1 - threshold), and
# with best = -10 that is -9.999, so that -10 after -10, and -9.9995 after -10, are improvements; best then rises.
# threshold_mode="abs" does what is expected.
# Seen (the last number is the rate after six epochs, patience=1, factor=0.5, at first 1.0):
#   torch 2.13.0: rel, 10.0 six times: best 10.0, rate 0.25
#   torch 2.13.0: rel, -10.0 six times: best -10.0, rate 1.0
#   torch 2.13.0: rel, -10 and rising: best -9.9975, rate 1.0
#   torch 2.13.0: abs, -10.0 six times: best -10.0, rate 0.25
#   torch 2.13.0: abs, -10 and rising: best -10.0, rate 0.25
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6
"$work/venv/bin/python" - <<'PYTHON' | tee "$work/seen"
import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

version = torch.__version__.partition("+")[0]
same, rising = [-10.0] * 6, [-10.0, -9.9995, -9.999, -9.9985, -9.998, -9.9975]
cases = [("rel", "10.0 six times", [10.0] * 6)]
cases += [(how, what, values) for how in ("rel", "abs") for what, values in (("-10.0 six times", same), ("-10 and rising", rising))]
for how, what, values in cases:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = ReduceLROnPlateau(optimizer, patience=1, factor=0.5, threshold_mode=how)
    for value in values:
        schedule.step(value)
    print(f"torch {version}: {how}, {what}: best {schedule.best}, rate {optimizer.param_groups[0]['lr']}")
PYTHON
diff "$work/seen" - <<'SEEN' && echo "as it was"
torch 2.13.0: rel, 10.0 six times: best 10.0, rate 0.25
torch 2.13.0: rel, -10.0 six times: best -10.0, rate 1.0
torch 2.13.0: rel, -10 and rising: best -9.9975, rate 1.0
torch 2.13.0: abs, -10.0 six times: best -10.0, rate 0.25
torch 2.13.0: abs, -10 and rising: best -10.0, rate 0.25
SEEN
