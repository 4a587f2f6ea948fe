"""python -m bench: fastbp beside NumPy, torch, JAX and scikit-learn, in one command."""

import argparse
import contextlib
import importlib
import sys
import time

_DESCRIPTION = """\
Time a training step of fastbp beside every peer that is installed, on the same data, from the same
weights, over the same batches. Each peer has a process of its own; their losses must agree before
anything is timed; then they take turns. Prints a table, writes bench.json and pictures."""

_EPILOG = """\
examples:
  python -m bench                          six workloads, every peer installed: some minutes
  python -m bench --quick                  NumPy alone, half a minute
  python -m bench --cases all --rounds 15  the variants too (sgd, tanh, gelu, mse, odd, batches)
  python -m bench --cases 'mnist*' --peers numpy,jax
  python -m bench --startup                import and first fit, cache full and empty
  python -m bench --predict                latency of one row, throughput of many
  python -m bench --scale                  cost against width, depth and batch
  python -m bench --features               cost of everything that has a name beside the plain step
  python -m bench --features --cases losses  (or optimizers, options, training, activations)
  python -m bench --layers                 cost of dropout, norms, skips, embeddings
  python -m bench --fitting                single steps, frozen layers, autoencoders
  python -m bench --kernels                activations, losses, updates, products, each alone
  python -m bench --many                   networks in one call, searches, beside loops and JAX's vmap
  python -m bench --estimators             scores and times of scikit-learn's estimators and fastbp's"""

PARTS = {  # modules of parts/
    "startup": "measure start-up",
    "predict": "measure inference",
    "scale": "measure cost against size",
    "features": "measure the cost of each feature",
    "layers": "measure the cost of dropout, norms, skips and embeddings",
    "fitting": "measure single steps, frozen layers, autoencoders",
    "kernels": "measure single kernels",
    "many": "measure many networks in one call",
    "estimators": "compare estimators on real data",
}


def main(argv=None):
    """Run; returns the exit code."""
    args = _arguments(argv)
    try:
        chosen = next((name for name in PARTS if getattr(args, name)), None)
        part = importlib.import_module(f"bench.parts.{chosen}").main if chosen else _steps
        return part(args)
    except ValueError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return 130


def _arguments(argv):
    from .steps.machine import usable_cores

    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_mutually_exclusive_group()
    for name, text in PARTS.items():
        what.add_argument(f"--{name}", action="store_true", help=f"{text} instead")
    parser.add_argument("--quick", action="store_true", help="NumPy alone, 5 short rounds")
    parser.add_argument(
        "--cases", default="six", metavar="A,B", help="names, patterns, six, variants, all (default: six)"
    )
    parser.add_argument(
        "--peers", metavar="A,B", help="numpy, torch, torch.compile, jax, sklearn (default: those installed)"
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="timed runs of each (default: 9)")
    parser.add_argument(
        "--threads", type=int, default=usable_cores(), metavar="T", help="(default: the cores usable)"
    )
    parser.add_argument("--out", default="bench-results", metavar="DIR", help="(default: bench-results)")
    parser.add_argument("--json", metavar="FILE", help="(default: DIR/bench.json)")
    parser.add_argument(
        "--roofline", metavar="FILE", help="write the roofline picture there too: docs/roofline.png"
    )
    parser.add_argument(
        "--markdown", action="store_true", help="print tables as Markdown: the README's, docs/sklearn.md's"
    )
    args = parser.parse_args(argv)
    if args.rounds is not None and args.rounds < 1:
        parser.error(f"--rounds: got {args.rounds}, takes 1 or more")
    if not 1 <= args.threads <= usable_cores():
        parser.error(f"--threads: got {args.threads}, takes 1 to {usable_cores()}, the cores usable here")
    return args


def _steps(args):
    """The main benchmark: a training step on each case."""
    from .steps import machine, plots, report
    from .steps.cases import select
    from .steps.compare import RUN_SECONDS, compare
    from .steps.peers import chosen
    from .steps.workers import Worker

    cases, names = select(args.cases), chosen(args)
    rounds = args.rounds or (5 if args.quick else 9)
    described, peak = machine.describe(args.threads), machine.Peak(args.threads)
    bandwidth = {"one": machine.copy_bandwidth(1), "all": machine.copy_bandwidth(args.threads)}
    began, results = time.perf_counter(), []
    with contextlib.ExitStack() as stack:
        team = {name: stack.enter_context(Worker(name, args.threads)) for name in names}
        for case in cases:
            print(f"{case.name}: {case.shape} ...", file=sys.stderr, flush=True)
            say = lambda text: print(text, file=sys.stderr, flush=True)  # noqa: E731
            seconds = RUN_SECONDS / 2 if args.quick else RUN_SECONDS
            results.append(compare(case, team, rounds, peak, say, seconds))
    print()
    print("\n".join(report.machine_lines(described, results, bandwidth)))
    print(f"\none training step, median of {rounds} interleaved runs; 3.0x: fastbp takes a third of it")
    print(report.table(report.step_rows(results), left=2))
    print()
    print("\n".join(report.notes(results)))
    if args.markdown:
        print(f"\n{report.table(report.readme_rows(results), markdown=True, left=2)}")
    content = {"machine": described, "bandwidth": bandwidth, "rounds": rounds, "results": results}
    path = report.write_json(args.json or f"{args.out}/bench.json", content)
    pictures = plots.draw(content, args.out, args.roofline)
    print(f"\n{time.perf_counter() - began:.0f} s; written: {', '.join(map(str, [path, *pictures]))}")
    if not pictures:
        print("no pictures: matplotlib is missing (pip install '.[plot]')")
    return 0


if __name__ == "__main__":
    sys.exit(main())
