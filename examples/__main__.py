"""Run every example and print one table: ``python -m examples``; ``--readme`` writes it into README.md here.

Each runs in a process of its own, as ``python examples/NAME.py`` does, one after the other.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from datetime import date
from pathlib import Path

from fastbp.printing import markdown_table

from .side_by_side import duration, facts, said

HERE = Path(__file__).parent
NAMES = (
    "handwriting", "fashion", "faces", "diagnosis", "text", "credit", "houses", "traffic", "autoencoder",
    "semi_supervised",
)  # fmt: skip
BEGIN, END = "<!-- examples:begin -->\n", "<!-- examples:end -->\n"


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m examples", description=__doc__)
    parser.add_argument("names", nargs="*", default=NAMES, help="those to run; default all")
    parser.add_argument("--rounds", type=int, default=3, help="seeds of each; default 3")
    parser.add_argument("--quick", action="store_true", help="fewer rows and epochs")
    parser.add_argument("--readme", action="store_true", help="write the tables into examples/README.md")
    args = parser.parse_args(argv)
    found = {name: run(name, args.rounds, args.quick) for name in args.names}
    found = {name: result for name, result in found.items() if result}
    page = f"{stated(args)}\n\n{scores(found)}\n\n{sources(found)}\n"
    if args.readme:
        write(page)
    print(page)
    return int(len(found) < len(args.names))


def run(name, rounds, quick=False):
    """The comparison that NAME.py prints as JSON, or None where it ends otherwise, which is said."""
    print(name, "...", file=sys.stderr, flush=True)
    command = [sys.executable, HERE / f"{name}.py", "--json", "--rounds", str(rounds)]
    done = subprocess.run([*command, "--quick"][: None if quick else -1], capture_output=True, text=True)
    if done.returncode:
        print(done.stderr.strip().splitlines()[-1], file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def stated(args):
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (
        f"Mean ± standard deviation over {args.rounds} seeds, the fastest time of each to train and score, "
        f"on {cores} core{'s'[: cores > 1]} of a shared {platform.machine()} machine, {date.today():%B %Y}."
    )


def scores(found):
    """The first table: score and time of fastbp, of scikit-learn's network, of the others."""
    rows = [["example", "score", "fastbp", "scikit-learn's MLP", "faster", "beside them"]]
    for name, result in found.items():
        ours, theirs, *others = result["rows"]
        rows.append([
            f"[{name}.py]({name}.py)",
            f"{result['score']} ({'less' if result['lower'] else 'more'} is better)",
            both(ours),
            both(theirs),
            f"{theirs['seconds'] / ours['seconds']:.1f}x",
            "; ".join(f"{row['name']}: {both(row)}" for row in others),
        ])  # fmt: skip
    return markdown_table(rows, left=len(rows[0]))


def both(row):
    return f"{said(row)}, {duration(row['seconds'])}"


def sources(found):
    """The second table: what each shows, where its data comes from, its licence, how to get it."""
    keys = ("Shows", "Data", "Licence", "Get")
    rows = [["example", *(key.lower() for key in keys)]]
    for name in found:
        about = facts((HERE / f"{name}.py").read_text("utf-8").split('"""')[1])
        rows.append([name, *(about[key] for key in keys)])
    return markdown_table(rows, left=len(rows[0]))


def write(page, path=HERE / "README.md"):
    head, _, rest = path.read_text("utf-8").partition(BEGIN)
    path.write_text(head + BEGIN + page + END + rest.partition(END)[2], "utf-8")


if __name__ == "__main__":
    sys.exit(main())
