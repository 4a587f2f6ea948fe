#!/usr/bin/env bash
# numba 0.68.1: what njit(cache=True) finds in its cache folder it unpickles, whatever it is. An index file that is empty (a
# full disk, a loss of power) raises EOFError at every call of the function, in every process, until somebody removes it. Where
# the folder can no longer be written when the function is compiled, the OSError ends the call, though the code is there.
# Seen:
#   an empty index file: EOFError Ran out of input
#   no room on the disk: OSError File too large
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q numba==0.68.1
cat >"$work/more.py" <<'PYTHON'
import resource
import signal
import sys

from numba import njit


@njit(cache=True)
def more(x):
    return x + 1


if "full" in sys.argv:  # no file above 100 bytes
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    print(more(1))
except Exception as error:
    print(f"{sys.argv[1]}: {type(error).__name__} {getattr(error, 'strerror', None) or error}")
PYTHON
cd "$work"
export NUMBA_CACHE_DIR="$work/cache"
venv/bin/python more.py >/dev/null
for file in cache/*/*.nbi; do : >"$file"; done
venv/bin/python more.py "an empty index file" | tee seen
rm -rf cache
venv/bin/python more.py "no room on the disk" full | tee -a seen
diff seen - <<'SEEN' && echo "as it was"
an empty index file: EOFError Ran out of input
no room on the disk: OSError File too large
SEEN
