"""Pictures by matplotlib, without pyplot or a display: speed-up bars, the roofline, scaling curves."""

import math
from pathlib import Path

from .compare import summarize
from .report import network, times

INK, GRID = "#333333", "#e4e4e4"
COLORS = {
    "fastbp": "#c2410c",
    "numpy": "#4878a8",
    "torch": "#7a5195",
    "torch.compile": "#b39ac8",
    "jax": "#3a8f6d",
    "sklearn": "#a8a29e",
    "onnxruntime": "#b08900",
}
# in the roofline, columns left and right of a workload's place: nobody hides who is as fast
ASIDE, BESIDE = {"numpy": -2, "torch": -1, "torch.compile": 1, "jax": 2}, 1.035
NAMES = {"numpy": "NumPy", "torch": "torch", "jax": "JAX jit + scan", "sklearn": "scikit-learn"}


def figure(width, height, rows=1, columns=1):
    """(figure, list of axes) in the house style; ImportError without matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    result = Figure(figsize=(width, height), dpi=144, layout="constrained")
    FigureCanvasAgg(result)
    axes = list(result.subplots(rows, columns, squeeze=False).flat)
    for ax in axes:
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
        ax.spines[["left", "bottom"]].set_color("#999999")
        ax.tick_params(colors=INK, labelsize=9, which="both", length=0)
    return result, axes


def save(drawing, path):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    drawing.savefig(path, facecolor="white")
    return path


def log_axis(axis, values):
    """A logarithmic axis whose ticks are plain numbers: 1, 2, 5, 10 ... over what is shown."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    low, high = min(values), max(values)
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    steps = (1,) if math.log10(high / low) > 3 else (1, 2, 5)
    axis.set_major_locator(FixedLocator([s * 10.0**d for d in decades for s in steps]))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))


def title(ax, text, detail=""):
    ax.set_title(text, loc="left", color=INK, fontsize=12, pad=24 if detail else 8)
    if detail:
        ax.text(0, 1.015, detail, transform=ax.transAxes, color="#666666", fontsize=8.5, va="bottom")


def machine_line(machine):
    threads = machine["threads"]
    return f"{machine['cpu']}, {threads} thread{'s' * (threads > 1)}"


def draw(content, folder, copy=None):
    """Both pictures of the main benchmark, the roofline also at ``copy``; paths, none without matplotlib."""
    try:
        return [
            speedups(content, Path(folder) / "speedup.png"),
            *(roofline(content, path) for path in (Path(folder) / "roofline.png", copy) if path),
        ]
    except ImportError:
        return []


def speedups(content, path):
    """Bars: each peer's time per step over fastbp's, per workload."""
    results = content["results"]
    summaries = [summarize(result) for result in results]
    names = [n for n in COLORS if n != "fastbp" and any(n in s["peers"] for s in summaries)]
    rows = sum(len(s["peers"]) - 1 for s in summaries)
    drawing, (ax,) = figure(8, 1.6 + 0.21 * rows + 0.16 * len(results))
    y, ticks, shown = 0.0, [], [1.0]
    for name in names:
        ax.barh(0, 0, color=COLORS[name], label=NAMES.get(name, name))
    for result, summary in zip(results, summaries, strict=True):
        top = y
        for name in (n for n in names if n in summary["peers"]):
            ratio = summary["peers"][name]["times"]
            ax.barh(y, ratio - 1, left=1, height=0.86, color=COLORS[name])
            side, anchor = (3, "left") if ratio >= 1 else (-3, "right")
            ax.annotate(times(ratio)[:-1], (ratio, y), (side, 0), textcoords="offset points",
                        va="center", ha=anchor, fontsize=8, color=INK)  # fmt: skip
            shown.append(ratio)
            y += 1
        ticks.append(((top + y - 1) / 2, f"{result['case']['name']}\n{network(result['case'])}"))
        y += 0.8
    ax.set_xscale("log")
    ax.set_xlim(min(shown) / 1.15, max(shown) * 1.25)
    log_axis(ax.xaxis, shown)
    ax.set_ylim(y - 0.9, -0.9)
    ax.set_yticks([place for place, _ in ticks], [text for _, text in ticks])
    ax.axvline(1, color=COLORS["fastbp"], linewidth=1.5)
    ax.grid(axis="x", color=GRID, linewidth=0.8)
    ax.spines["left"].set_visible(False)
    ax.set_xlabel("time of a training step, in multiples of fastbp's", color=INK, fontsize=9)
    title(ax, "A training step: how many times longer the others take", machine_line(content["machine"]))
    if names:
        ax.legend(
            loc="lower right", frameon=True, edgecolor="none", framealpha=0.9, fontsize=9, labelcolor=INK
        )
    return save(drawing, path)


def roofline(content, path):
    """GFLOP/s against arithmetic intensity, under the measured peak and copy bandwidth."""
    results = content["results"]
    summaries = [summarize(result) for result in results]
    peak = max(summary["peak"] for summary in summaries)
    bandwidth = content["bandwidth"]["all"]
    drawing, (ax,) = figure(8, 5.2)
    points = _apart([1e9 * r["case"]["gflop"] / r["case"]["step_bytes"] for r in results])
    low, high = min(points) / 2, max(points) * 2
    ridge = peak / bandwidth
    roof = [low, *([ridge] if low < ridge < high else []), high]
    ax.plot(roof, [min(peak, bandwidth * x) for x in roof], color=INK, linewidth=1.6)
    ax.text(high, peak * 1.06, f"FMA peak {peak:.0f} GFLOP/s", ha="right", fontsize=9, color=INK)
    if low < ridge:
        middle = (low * min(ridge, high)) ** 0.5
        ax.annotate(f"copy {bandwidth:.0f} GB/s", (middle, bandwidth * middle), (-8, 5), ha="right",
                    textcoords="offset points", fontsize=9, color=INK)  # fmt: skip
    shown = [peak]
    for x, result, summary in zip(points, results, summaries, strict=True):
        rates = {n: p["share"] * summary["peak"] for n, p in summary["peers"].items()}
        shown += rates.values()
        ax.plot([x, x], [min(rates.values()), max(rates.values())], color=GRID, linewidth=1.2, zorder=1)
        for name, rate in rates.items():
            size, layer = (9, 2) if name == "fastbp" else (5.5, 3)
            ax.plot(x * BESIDE ** ASIDE.get(name, 0), rate, "o", color=COLORS[name], markersize=size,
                    zorder=layer, markeredgecolor="white", markeredgewidth=0.8)  # fmt: skip
        text = f"{result['case']['name']}\n{100 * summary['peers']['fastbp']['share']:.0f} %"
        ax.annotate(text, (x, min(rates.values())), (0, -9), textcoords="offset points", fontsize=8.5,
                    color=INK, ha="center", va="top")  # fmt: skip
    for name in [n for n in COLORS if any(n in s["peers"] for s in summaries)]:
        ax.plot([], [], "o", color=COLORS[name], markersize=6, label=NAMES.get(name, name))
    ax.set(xscale="log", yscale="log", xlim=(low, high), ylim=(min(shown) / 3, peak * 1.6))
    log_axis(ax.xaxis, [low, high])
    log_axis(ax.yaxis, shown)
    ax.grid(color=GRID, linewidth=0.8)
    label = "FLOP per byte, if parameters and optimizer state came from memory in every step"
    ax.set_xlabel(label, color=INK, fontsize=9)
    ax.set_ylabel("GFLOP/s", color=INK, fontsize=9)
    detail = "; %: share of the peak. Small networks live in the caches, not in memory"
    title(ax, "Training steps under the machine's roof", machine_line(content["machine"]) + detail)
    drawing.legend(loc="outside lower center", ncols=7, frameon=False, fontsize=9, labelcolor=INK)
    return save(drawing, path)


def _apart(points, least=1.2):
    """Neighbours on a logarithmic axis moved apart to this ratio, so that their dots can be told."""
    moved, order = list(points), sorted(range(len(points)), key=points.__getitem__)
    for a, b in zip(order[:-1], order[1:], strict=True):
        if moved[b] < least * moved[a]:
            middle = (moved[a] * moved[b]) ** 0.5
            moved[a], moved[b] = middle / least**0.5, middle * least**0.5
    return moved
