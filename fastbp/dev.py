"""``python -m fastbp.dev``: for whoever writes kernels. Tests take a clone of the repository.

asm NAME, ir NAME     machine code, optimized IR of one function of the CPU's program
test NAME             the tests of one kernel, activation, loss or optimizer
sim NAME              tests of the GPU's kernels in numba's simulator
profile SIZES         where a training step's time goes
formula NAME X ...    an activation, a loss or a function of formulas.py in NumPy, without a compiler
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .errors import unknown
from .printing import text_table

ROOT = Path(__file__).resolve().parents[1]
# where the tests of kernels are; those of the GPU's are in tests/cuda
OF_KERNELS = (
    "test_kernels.py",
    "test_losses.py",
    "test_optimizers.py",
    "test_layers.py",
    "test_dropout.py",
    "test_prelu.py",
    "test_team.py",
)
FUNCTIONS = ("exp", "expm1_negative", "log_", "log1p_unit", "normal", "sine")  # of formulas.py, of one number


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    args = _parser().parse_args(argv)
    try:
        return args.run(args) or 0
    except (ValueError, RuntimeError, OSError) as error:
        print(f"fastbp.dev: error: {error}", file=sys.stderr)
        return 2


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m fastbp.dev", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(name, run, help):
        made = commands.add_parser(name, help=help, description=help)
        made.set_defaults(run=run)
        return made

    for name, what in (("asm", "machine code"), ("ir", "optimized IR")):
        shown = command(name, _listing, f"{what} of one function; without a name, which there are")
        shown.set_defaults(assembly=name == "asm")
        shown.add_argument("name", nargs="?", metavar="NAME")
        shown.add_argument("--dtype", choices=("float32", "float64"), default="float32")
        shown.add_argument("--grep", metavar="PATTERN", help="only lines that match")
    tested = command("test", _test, "the tests of one kernel, activation, loss or optimizer")
    simulated = command(
        "sim", _simulate, "tests of the GPU's kernels whose name holds NAME, in the simulator"
    )
    for parser_of_tests in (tested, simulated):
        parser_of_tests.add_argument("name", metavar="NAME")
        parser_of_tests.add_argument("--list", action="store_true", help="say which, run none")
    profile = command("profile", _profile, "where a training step's time goes, on random data")
    profile.add_argument("sizes", metavar="SIZES", help="784-256-10")
    profile.add_argument("--batch", type=int, default=128, metavar="B")
    profile.add_argument("--activation", default="relu", metavar="NAME")
    profile.add_argument("--loss", default="cross_entropy", metavar="NAME")
    profile.add_argument("--optimizer", default="adam", metavar="NAME")
    profile.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    profile.add_argument("--threads", type=int, metavar="T")
    profile.add_argument("--device", default="cpu", metavar="NAME")
    profile.add_argument("--seconds", type=float, default=1.0, metavar="S")
    formula = command("formula", _formula, "an activation, a loss or a function of formulas.py, in NumPy")
    formula.add_argument("name", metavar="NAME")
    formula.add_argument("x", nargs="+", type=float, metavar="X", help="of a loss one sample's outputs")
    formula.add_argument("--target", nargs="+", type=float, metavar="T", help="of a loss: numbers or a label")
    formula.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    return parser


def _listing(args):
    from .engine import backend

    if args.name is None:
        print(*backend.kernel_names(), sep="\n")
        return
    if args.name not in (known := backend.kernel_names()):
        raise unknown("NAME", args.name, known)
    text = backend.listing(args.name, args.dtype, args.assembly)
    if not text:
        raise ValueError(
            f"{args.name}: LLVM wrote it into all its callers; look at theirs, at last at worker's"
        )
    if args.assembly:
        print(_summary(text))
    lines = text.splitlines()
    print(*(line for line in lines if args.grep is None or re.search(args.grep, line)), sep="\n")


def _summary(assembly):
    """What to look at first. A vector that is put on the stack did not fit the registers."""
    instructions = re.findall(r"^\s+([a-z]\w*)[ \t]*(.*)$", assembly, re.M)
    fused = sum(name.startswith(("vfmadd", "vfmsub", "vfnm", "fmla", "fmadd")) for name, _ in instructions)
    spilled = len(
        re.findall(r"^\s+v?mov\w+\s+%[xyz]mm\d+, -?\d*\(%rsp\)|^\s+st[rp]\s+q.*\[sp", assembly, re.M)
    )
    return (
        f"# {len(instructions)} instructions, {fused} fused multiply-adds, {spilled} vectors put on the stack"
    )


def _folder():
    if not (ROOT / "tests").is_dir():
        raise ValueError("tests: not here; takes a clone of the repository")
    if importlib.util.find_spec("pytest") is None:
        raise ValueError("tests: pytest is not installed; pip install -e '.[test]'")
    return ROOT / "tests"


class Chosen:
    """Takes from what pytest has collected the tests of one thing.

    A name of the tables is one of a test's parameters. A kernel is one too, or it is in the test's name or
    source; a kernel that no test speaks of has, of what its file is about, one test of each kind.
    """

    def __init__(self, name: str) -> None:
        from .kernels import codes
        from .optimizers import OPTIMIZERS

        self.name = name
        named = name in {*codes.ACTIVATIONS, *codes.LEARNED, *codes.LOSSES, *OPTIMIZERS}
        sources = (Path(codes.__file__).parent / "cpu").glob("*.py")
        about = [
            p.stem.removesuffix("s") for p in sources if f"\ndef {name}(" in p.read_text(encoding="utf-8")
        ]
        self.ways = [self.by_parameter] if named else [self.by_parameter, self.by_name, self.by_source]
        self.about = about

    def by_parameter(self, item: Any) -> bool:
        _, _, parameters = item.name.partition("[")
        return self.name in re.split(r"[^A-Za-z0-9_]+", parameters)

    def by_name(self, item: Any) -> bool:
        return f"_{self.name}_" in f"{item.originalname}_"

    def by_source(self, item: Any) -> bool:
        return re.search(rf"\b{re.escape(self.name)}\b", inspect.getsource(item.function)) is not None

    def pytest_collection_modifyitems(self, config: Any, items: list[Any]) -> None:
        chosen = [item for item in items if any(way(item) for way in self.ways)]
        if not chosen:
            near = [
                i for i in items if any(f"_{word}" in i.path.stem + i.originalname for word in self.about)
            ]
            chosen = list({item.originalname: item for item in reversed(near)}.values())[::-1]
        config.hook.pytest_deselected(items=[item for item in items if item not in set(chosen)])
        items[:] = chosen


def _test(args):
    files = [path for path in sorted(_folder().rglob("test_*.py")) if path.name in OF_KERNELS]
    os.chdir(ROOT)
    options = ["--collect-only"] if args.list else []
    pytest = importlib.import_module("pytest")
    return _found(args, pytest.main([*map(str, files), *options], plugins=[Chosen(args.name)]))


def _simulate(args):
    command = [sys.executable, "-m", "pytest", str(_folder() / "cuda"), "-k", args.name]
    command += ["--collect-only"] if args.list else []
    variables = os.environ | {"NUMBA_ENABLE_CUDASIM": "1"}  # to be there before numba is imported
    return _found(args, subprocess.run(command, cwd=ROOT, env=variables).returncode)


def _found(args, code):
    if code == 5:  # pytest's: nothing was collected
        raise ValueError(f"NAME: got {args.name!r}, and no test speaks of it")
    return int(code)


def _profile(args):
    from .network.mlp import MLP
    from .training.trainer import Trainer

    try:
        sizes = [int(size) for size in args.sizes.split("-")]
    except ValueError:
        raise ValueError(f"SIZES: got {args.sizes!r}, takes numbers such as 784-256-10") from None
    net = MLP(sizes, args.activation, seed=0, dtype=args.dtype)
    trainer = Trainer(net, args.loss, args.optimizer, args.batch, threads=args.threads, device=args.device)
    print(trainer.explain(seconds=args.seconds))


def _formula(args):
    import numpy as np

    from .kernels import arrays, codes, formulas
    from .losses import LOSSES

    m = arrays.Maths(args.dtype)
    x = m.constant(args.x)
    with np.errstate(all="ignore"):
        if args.name in codes.ACTIVATIONS:
            heads, columns = ("z", "value", "slope"), value_and_slope(m, codes.ACTIVATIONS[args.name], x)
        elif args.name in LOSSES:
            if args.target is None:
                raise ValueError("--target: got nothing, takes the targets of a loss, or a label")
            label = len(args.target) == 1 < len(x)
            rows = loss_of(m, LOSSES[args.name](), x[None], np.array(args.target, int if label else float))
            print(f"loss {rows.loss[0]}")
            heads, columns = ("z", "gradient"), (rows.delta[0],)
        elif args.name in FUNCTIONS:
            found = getattr(formulas, args.name)(m, x)
            columns = found if isinstance(found, tuple) else (found,)
            heads = ("x", *("value", "second")[: len(columns)])
        else:
            raise unknown("NAME", args.name, [*codes.ACTIVATIONS, *LOSSES, *FUNCTIONS])
    digits = 17 if m.is64 else 9
    numbers = [[f"{float(number):.{digits}g}" for number in row] for row in zip(x, *columns, strict=True)]
    print(text_table([heads, *numbers], left=0))


def loss_of(m: Any, loss: Any, z: Any, targets: Any) -> Any:
    """arrays.Rows after a loss of outputs z (R, C), by NumPy's maths m; targets as ``fit`` takes them."""
    from .kernels import arrays, loss_formulas

    one = len(z) == 1 and targets.shape == (z.shape[1],) and z.shape[1] > 1  # a row of numbers
    code, t = loss.targets(targets[None] if one else targets, z.shape[1])
    rows = arrays.Rows(m, z, t, loss.numbers(z.shape[1]))
    loss_formulas.LOSS[code](m, rows)
    return rows


def value_and_slope(m: Any, code: int, z: Any) -> tuple[Any, Any]:
    """An activation and its derivative, by the maths ``m`` of a device or of NumPy."""
    from .kernels import codes, formulas

    if code in codes.STORED:
        return formulas.ACTIVATION_AND_SLOPE[code](m, z)
    a = formulas.ACTIVATION[code](m, z)
    return a, m.constant(1.0) + z * 0 if code == codes.IDENTITY else formulas.SLOPE[code](m, a)


if __name__ == "__main__":
    sys.exit(main())
