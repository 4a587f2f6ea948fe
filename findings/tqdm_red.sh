#!/usr/bin/env bash
# tqdm 4.70.1: in a notebook a bar that is closed before its total is shown as failed ("danger", red), although nothing failed: after a
# break out of its loop, close(), or the end of its with block. Only a total that is equal to what was done ends green.
# Seen:
#   tqdm 4.70.1: break danger
#   tqdm 4.70.1: close danger
#   tqdm 4.70.1: with danger
#   tqdm 4.70.1: total changed success
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q tqdm==4.70.1 ipywidgets==8.1.8
"$work/venv/bin/python" - <<'PYTHON' | tee "$work/seen"
import tqdm
from tqdm.notebook import tqdm as Bar


def say(how, bar):
    print(f"tqdm {tqdm.__version__}: {how} {bar.container.children[1].bar_style}")


bar = Bar(range(10), display=False)
for k in bar:
    if k == 3:
        break
say("break", bar)
bar = Bar(total=10, display=False)
bar.update(3)
bar.close()
say("close", bar)
with Bar(total=10, display=False) as bar:
    bar.update(3)
say("with", bar)
bar = Bar(total=10, display=False)
bar.update(3)
bar.total = bar.n
bar.close()
say("total changed", bar)
PYTHON
diff "$work/seen" - <<'SEEN' && echo "as it was"
tqdm 4.70.1: break danger
tqdm 4.70.1: close danger
tqdm 4.70.1: with danger
tqdm 4.70.1: total changed success
SEEN
