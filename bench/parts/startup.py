"""Start-up, in fresh processes: import beyond numba's, the first fit with a full and an empty cache."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from ..steps.report import table, write_json
from ..steps.workers import thread_variables

ROOT = Path(__file__).resolve().parents[2]

_IMPORT = """
import json, time
start = time.perf_counter()
import numba
middle = time.perf_counter()
import fastbp
print(json.dumps([middle - start, time.perf_counter() - middle]))
"""

# The data is made before: what counts is from the network to the trained weights.
_FIRST_FIT = """
import json, time
import fastbp as fb
from bench.steps.cases import SIX
case = next(case for case in SIX if case.name == "digits")
X, y = (array[: 32 * case.batch] for array in case.data())
start = time.perf_counter()
trainer = fb.Trainer(fb.MLP(case.sizes, seed=0), batch_size=case.batch, seed=0)
trainer.fit(X, y, verbose=0)
first = time.perf_counter() - start
start = time.perf_counter()
trainer.fit(X, y, verbose=0)
print(json.dumps([first, time.perf_counter() - start]))
"""

GOALS = {"import": 0.15, "full": 1.0, "empty": 12.0}  # seconds


def main(args):
    """Measure and print; --rounds sets the number of processes of each kind but the slow one."""
    fresh = args.rounds or (3 if args.quick else 7)
    with thread_variables(args.threads), tempfile.TemporaryDirectory() as folder:
        empty = [
            _run(_FIRST_FIT, Path(folder) / str(k))[0] for k in range(1 if args.quick else min(fresh, 3))
        ]
        full = [_run(_FIRST_FIT, Path(folder) / "0") for _ in range(fresh)]
        _run(_IMPORT, Path(folder) / "0")  # byte code and file cache are warm from here on
        imports = [_run(_IMPORT, Path(folder) / "0") for _ in range(fresh)]
    times = {
        "import": [beyond for _, beyond in imports],
        "full": [first for first, _ in full],
        "empty": empty,
        "numba": [numba for numba, _ in imports],
        "second": [second for _, second in full],
    }
    print(table(rows(times)))
    path = write_json(args.json or f"{args.out}/startup.json", {"seconds": times, "goals": GOALS})
    print(f"\nwritten: {path}")
    return 0


_WORDS = {
    "import": "import fastbp, beyond numba",
    "full": "first fit of a process, cache full",
    "empty": "first fit of a process, cache empty",
    "numba": "(import numba)",
    "second": "(the same fit again: training alone)",
}


def rows(times):
    """The table's rows from {what: [seconds, ...]}."""
    found = [("start-up, fresh processes", "median", "from", "to", "goal")]
    for what, seconds in times.items():
        values = (statistics.median(seconds), min(seconds), max(seconds))
        goal = f"{GOALS[what]:g} s" if what in GOALS else ""
        found.append((_WORDS[what], *(f"{value:.3f} s" for value in values), goal))
    return found


def _run(code, cache):
    """What a fresh Python prints as JSON, from the repository's root."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment
    )
    if done.returncode:
        raise ValueError(f"startup: the process failed: {done.stderr.strip()[-500:]}")
    return json.loads(done.stdout)
