"""Rows of the tables, the machine in words, the JSON file."""

import json
import os
import statistics
from pathlib import Path

from fastbp.printing import markdown_table, text_table

from .compare import summarize


def table(rows, markdown=False, left=1):
    """Rows of strings for the terminal, their head underlined, or in Markdown."""
    return markdown_table(rows, left) if markdown else text_table(rows, left, rule=True)


def duration(us):
    """Microseconds as text of three digits and a unit."""
    if us < 999.5:
        return f"{us:.3g} us"
    return f"{us / 1e3:.3g} ms" if us < 999_500 else f"{us / 1e6:.3g} s"


def times(ratio):
    """A ratio as text: 3.4x, 12x."""
    return f"{ratio:.1f}x" if ratio < 9.95 else f"{ratio:.0f}x"


def step_rows(results):
    """The main table: per case fastbp's time, its spread and share, then each peer's time and ratio."""
    names = list(dict.fromkeys(name for r in results for name in r["peers"] if name != "fastbp"))
    rivals = any(summarize(r)["best"] for r in results)
    header = ["workload", "network", "fastbp", "quartiles", "of peak", *names]
    rows = [header + ["best rival"] * rivals]
    for result in results:
        summary = summarize(result)
        ours = summary["peers"]["fastbp"]
        row = [result["case"]["name"], network(result["case"]), duration(ours["us"])]
        row.append(f"{duration(ours['low'])} - {duration(ours['high'])}")
        row.append(f"{100 * ours['share']:.0f} %")
        for name in names:
            peer = summary["peers"].get(name)
            row.append(f"{duration(peer['us'])} {times(peer['times'])}" if peer else "-")
        if rivals:
            best = summary["best"]
            row.append(f"{best} {times(summary['peers'][best]['times'])}" if best else "-")
        rows.append(row)
    return rows


def readme_rows(results):
    """The README's table: no spread, ratios beside the times."""
    return [row[:3] + row[4:] for row in step_rows(results)]


def network(case):
    """The network of a case's dict in short, with what is unlike the six workloads."""
    words = [f"{'-'.join(map(str, case['sizes']))}, batch {case['batch']}"]
    words += [case[k] for k, usual in _USUAL.items() if case[k] != usual]
    return ", ".join(words)


_USUAL = {"activation": "relu", "loss": "cross_entropy", "optimizer": "adam"}


def machine_lines(machine, results=(), bandwidth=None):
    """The machine in a few lines, its measured ceilings included."""
    caches = ", ".join(f"{size} {level}" for level, size in machine["caches"].items())
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    threads = machine["threads"]
    lines = [
        f"{machine['cpu']} ({machine['target']}), {machine['cores_usable']} of {machine['cores']} cores, "
        f"{threads} thread{'s' * (threads > 1)} for everyone, {caches}",
        f"{machine['system']}, Python {machine['python']}, {versions}",
    ]
    if results:
        one = [value for r in results for value in r["peak"]["one"]]
        every = [value for r in results for value in r["peak"]["all"]]
        line = f"FMA peak, float32, measured between the rounds: {_range(one)} GFLOP/s on one thread"
        lines.append(line + (f", {_range(every)} on {threads}" if threads > 1 else ""))
        if statistics.median(every) < 0.85 * threads * statistics.median(one):
            lines.append("the cores were not all free: shares of the peak and ratios mean little")
    if bandwidth:
        lines.append(
            f"copy bandwidth (read + write): {bandwidth['one']:.0f} GB/s on one thread"
            + (f", {bandwidth['all']:.0f} on {threads}" if threads > 1 else "")
        )
    if machine["load"] is not None and machine["load"] > 0.3:
        lines.append(f"load before the run: {machine['load']} (something else is running: times are uneven)")
    return lines


def _range(values):
    """The median, with the quartiles."""
    ordered = sorted(values)
    low, middle, high = (ordered[int(q * (len(ordered) - 1) + 0.5)] for q in (0.25, 0.5, 0.75))
    return f"{middle:.0f} ({low:.0f}-{high:.0f})"


def notes(results):
    """How each peer was used, and why some were not timed."""
    found = {}
    for result in results:
        for name, peer in result["peers"].items():
            if peer.get("note"):
                found.setdefault(name, peer["note"])
    lines = [f"{name}: {note}" for name, note in found.items()]
    worst = [p["disagreement"] for r in results for p in r["peers"].values() if p.get("us")]
    if worst:
        first, second = (max(column) for column in zip(*worst, strict=True))
        lines.append(
            f"mean losses agree to {first:.1e} relative in the first epoch, {second:.1e} in the second"
        )
    for result in results:
        for name, error in summarize(result)["errors"].items():
            lines.append(f"{result['case']['name']}, {name}: {error}")
    return lines


def write_json(path, content):
    """Write a dict as JSON, whole or not at all; returns the path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(partial, path)
    return path
