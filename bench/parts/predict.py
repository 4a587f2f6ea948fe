"""Inference side by side: the latency of one row through the Python call, and large batches."""

import contextlib
import sys
import time

import numpy as np

from ..steps import machine, report
from ..steps.cases import select
from ..steps.compare import peak_of
from ..steps.workers import REST, PeerFailed, Worker
from . import predictors

ROWS = (1, 32, 8192)
RUN_SECONDS = 0.1
TOLERANCE = 1e-4  # of the probabilities, absolute


def main(args):
    """Measure and print: --cases, --peers, --rounds, --threads, --out, --json as for training."""
    here = predictors.installed()
    names = args.peers.split(",") if args.peers else ["numpy"] if args.quick else here
    if unknown := [name for name in names if name not in here]:
        raise ValueError(f"peers: got {unknown[0]!r}, takes those installed here: {', '.join(here)}")
    names = ["fastbp"] + [name for name in here if name in names and name != "fastbp"]
    rounds = args.rounds or (3 if args.quick else 9)
    peak, results = machine.Peak(args.threads), []
    with contextlib.ExitStack() as stack:
        team = {n: stack.enter_context(Worker(n, args.threads, predictors.Server)) for n in names}
        for case in (c for c in select(args.cases) if c.loss == "cross_entropy" and c.activation == "relu"):
            print(f"{case.name} ...", file=sys.stderr, flush=True)
            results += [_compare(case, rows, team, rounds, peak) for rows in ROWS]
    described = machine.describe(args.threads)
    print()
    print("\n".join(report.machine_lines(described, results)))
    print("\none predict call, NumPy array to NumPy array: median of interleaved runs, times fastbp's")
    print(report.table(rows_of(results, names), left=3))
    content = {"machine": described, "rounds": rounds, "results": results}
    print(f"\nwritten: {report.write_json(args.json or f'{args.out}/predict.json', content)}")
    return 0


def _compare(case, rows, team, rounds, peak):
    """One case and number of rows: outputs agree first, then microseconds per call by round."""
    outputs, peers = {}, {}
    for name, worker in team.items():
        try:
            outputs[name] = worker.call("open", case, rows)
        except PeerFailed as error:
            if name == "fastbp":
                raise
            peers[name] = {"error": str(error.args[0])}
            continue
        apart = float(np.abs(outputs[name] - outputs["fastbp"]).max())
        peers[name] = {"disagreement": apart, "us": []}
        if not apart <= TOLERANCE:
            peers[name]["error"] = f"not timed: its probabilities differ by {apart:.1e}"
    same = np.array_equal(team["fastbp"].call("one")[0], outputs["fastbp"][0])
    names = [name for name in peers if "error" not in peers[name]]
    calls = {}
    for name in names:
        team[name].call("run", 3)
        calls[name] = max(1, round(RUN_SECONDS * 3 / team[name].call("run", 3)))
    peaks = {"one": [], "all": []}
    for round_ in range(rounds):
        peaks["one"].append(peak.gflops(1))
        peaks["all"].append(peak.gflops())
        shift = round_ % len(names)
        for name in names[shift:] + names[:shift]:
            time.sleep(REST)
            peers[name]["us"].append(1e6 * team[name].call("run", calls[name]) / calls[name])
    gflop = 2e-9 * rows * sum(i * o for i, o in case.layers)
    described = case.describe() | {"rows": rows, "gflop": gflop}
    return {"case": described, "peak": peaks, "peers": peers, "rows_independent": bool(same)}


def rows_of(results, names):
    """The table's rows."""
    others = [name for name in names if name != "fastbp"]
    found = [["workload", "network", "rows", "fastbp", "of peak", "same bits", *others]]
    for result in results:
        case, peers = result["case"], result["peers"]
        ours = np.array(peers["fastbp"]["us"])
        share = 1e6 * case["gflop"] / np.median(ours) / peak_of(result)
        row = [case["name"], "-".join(map(str, case["sizes"])), f"{case['rows']}"]
        row += [report.duration(np.median(ours)), f"{100 * share:.0f} %"]
        row.append("yes" if result["rows_independent"] else "NO")
        for name in others:
            us = peers[name].get("us") if "error" not in peers[name] else None
            ratio = np.median(np.array(us) / ours) if us else 0
            row.append(f"{report.duration(np.median(us))} {report.times(ratio)}" if us else "-")
        found.append(row)
    return found
