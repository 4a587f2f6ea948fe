"""Cost against size: width, depth and batch, beside torch and JAX, as curves that should have no cliffs."""

import contextlib
import sys

import numpy as np

from ..steps import machine, plots, report
from ..steps.cases import Case
from ..steps.compare import compare, summarize
from ..steps.peers import chosen, installed
from ..steps.workers import PeerFailed, Worker

LR = 1e-4  # small: deep and wide networks must follow the same path everywhere to be compared
EPOCH_GFLOP = 4.0  # some 20 to 50 ms
WIDTHS = (16, 32, 33, 64, 128, 129, 256, 512, 513, 1024, 1025, 2048, 4096)
DEPTHS = (1, 2, 4, 8, 16, 32)
BATCHES = (1, 2, 4, 8, 16, 32, 33, 64, 128, 256, 257, 512, 1024, 2048, 4096, 8192)
INPUTS = (16, 64, 256, 1000, 1024, 4096, 10000)
RUN_SECONDS = 0.1


def _case(name, sizes, batch):
    case = Case(name, sizes, batch, steps=1, lr=LR)
    steps = min(max(int(EPOCH_GFLOP / case.gflop), 2), 256)
    return Case(name, sizes, batch, steps, lr=LR)


def sweeps(quick=False):
    """{axis: [(size, Case), ...]}; quick: every third size, none of the largest."""
    found = {
        "width": [(w, _case(f"width {w}", (w, w, w, 10), 128)) for w in WIDTHS],
        "depth": [(d, _case(f"depth {d}", (64, *[128] * d, 10), 128)) for d in DEPTHS],
        "batch": [(b, _case(f"batch {b}", (256, 256, 256, 10), b)) for b in BATCHES],
        "inputs": [(k, _case(f"inputs {k}", (k, 128, 10), 128)) for k in INPUTS],
    }
    return {axis: points[:-1:3] for axis, points in found.items()} if quick else found


def main(args):
    """Measure, print, draw: --peers (default: torch and jax), --rounds, --threads, --quick."""
    if args.peers is None and not args.quick:
        args.peers = ",".join(name for name in ("torch", "jax") if name in installed()) or "numpy"
    names = chosen(args)
    rounds = args.rounds or 3
    peak, results = machine.Peak(args.threads), []
    with contextlib.ExitStack() as stack:
        team = {name: stack.enter_context(Worker(name, args.threads)) for name in names}
        for axis, points in sweeps(args.quick).items():
            for size, case in points:
                print(f"{case.name} ...", file=sys.stderr, flush=True)
                try:
                    result = compare(case, team, rounds, peak, _warn, RUN_SECONDS)
                except PeerFailed as error:
                    _warn(f"  {case.name}: {error.args[0]}")
                    continue
                results.append(result | {"axis": axis, "size": size})
    described = machine.describe(args.threads)
    print()
    print("\n".join(report.machine_lines(described, results)))
    print(f"\ncost of training per sample, median of {rounds} interleaved runs, and share of the peak")
    print(report.table(rows(results, names), left=2))
    content = {"machine": described, "rounds": rounds, "results": results}
    written = [report.write_json(args.json or f"{args.out}/scale.json", content)]
    with contextlib.suppress(ImportError):
        written.append(curves(content, f"{args.out}/scale.png"))
    print(f"\nwritten: {', '.join(map(str, written))}")
    return 0


def _warn(text):
    print(text, file=sys.stderr, flush=True)


def per_sample(result):
    """{name: (microseconds per sample, share of the peak)}"""
    batch = result["case"]["batch"]
    return {n: (p["us"] / batch, p["share"]) for n, p in summarize(result)["peers"].items()}


def rows(results, names):
    """The table's rows."""
    found = [["point", "network", *names]]
    for result in results:
        costs = per_sample(result)
        cells = [
            f"{report.duration(costs[name][0])} {100 * costs[name][1]:3.0f} %" if name in costs else "-"
            for name in names
        ]
        sizes = result["case"]["sizes"]
        text = "-".join(map(str, sizes)) if len(sizes) < 6 else f"{sizes[0]}-{sizes[1]} x {len(sizes) - 2}"
        found.append([result["case"]["name"], f"{text}, batch {result['case']['batch']}", *cells])
    return found


def curves(content, path):
    """Two rows of panels: microseconds per sample, share of the peak, against each axis."""
    results = content["results"]
    axes_found = list(dict.fromkeys(result["axis"] for result in results))
    drawing, axes = plots.figure(3.4 * len(axes_found) + 0.4, 6.2, 2, len(axes_found))
    names = [n for n in plots.COLORS if any(n in summarize(r)["peers"] for r in results)]
    top = max(share for r in results for _, share in per_sample(r).values())
    for k, axis in enumerate(axes_found):
        here = [result for result in results if result["axis"] == axis]
        cost, share = axes[k], axes[k + len(axes_found)]
        for name in names:
            points = [(r["size"], *per_sample(r)[name]) for r in here if name in per_sample(r)]
            x, us, of_peak = np.array(points).T
            style = {"color": plots.COLORS[name], "marker": "o", "markersize": 3.5}
            style["linewidth"] = 2 if name == "fastbp" else 1.3
            label = plots.NAMES.get(name, name) if k == 0 else None
            cost.plot(x, us, label=label, **style)
            share.plot(x, 100 * of_peak, **style)
        for ax in (cost, share):
            ax.set_xscale("log")
            ax.set_xticks(_powers([r["size"] for r in here]), labels=_powers([r["size"] for r in here]))
            ax.minorticks_off()
            ax.grid(color=plots.GRID, linewidth=0.8)
        cost.set_yscale("log")
        plots.log_axis(cost.yaxis, [us for r in here for us, _ in per_sample(r).values()])
        share.set_ylim(0, min(105, 115 * top))
        share.set_xlabel(axis, color=plots.INK, fontsize=9)
        plots.title(cost, axis, _TITLES[axis])
    axes[0].set_ylabel("us per sample", color=plots.INK, fontsize=9)
    axes[len(axes_found)].set_ylabel("% of the FMA peak", color=plots.INK, fontsize=9)
    drawing.suptitle(f"Training, {plots.machine_line(content['machine'])}", x=0.01, ha="left", fontsize=10)
    drawing.legend(loc="outside lower center", ncols=7, frameon=False, fontsize=9, labelcolor=plots.INK)
    return plots.save(drawing, path)


def _powers(sizes):
    """The powers of two among the sizes, every other one where there are many."""
    found = [size for size in sizes if size & (size - 1) == 0]
    return found[:: 2 if len(found) > 7 else 1]


_TITLES = {
    "width": "w-w-w-10, batch 128",
    "depth": "64-128 x depth-10, batch 128",
    "batch": "256-256-256-10",
    "inputs": "k-128-10, batch 128",
}
