"""The command line: `fastbp train`, `fastbp info`. Parses, reports errors; the work is elsewhere.

Exit codes: 0 done, 2 bad input (one line on stderr, no traceback), 130 interrupted by Ctrl-C.
"""

import argparse
import sys

_TRAIN = """\
Train a multi-layer perceptron on DATA, test it on a part held out, write the model and a picture.

DATA is a data set inside the package (digits) or a file:
  .csv .tsv      comma, semicolon or tab; the target is the last column, or --target NAME or INDEX
  .npz           arrays X and y, or x_train, y_train, x_test, y_test; or --target NAME
  .npy           features; --target is another .npy file, or the INDEX of a column
  idx-ubyte      MNIST's format; the labels lie beside the images, or --target FILE
.csv, .tsv and idx files may be compressed by gzip (.gz)."""

_EXAMPLES = """\
examples:
  fastbp train digits
  fastbp train digits --hidden 512 --activation gelu --optimizer adamw --lr 2e-3 --epochs 30
  fastbp train iris.csv --target species --out models/iris
  fastbp train houses.csv --target price --loss huber
  fastbp train train-images-idx3-ubyte.gz --hidden 512,512 --threads 4

Features are standardised for training (bytes, such as pixels, by one common scale), and so is the
target of a regression; both are folded into the first and last layer afterwards, so the model
written takes raw features and gives raw values."""


class _Parser(argparse.ArgumentParser):
    """Errors as exceptions, so that `main` reports all of them alike, in one line."""

    def error(self, message):
        raise ValueError(f"{message} (see {self.prog} --help)")


def main(argv=None):
    """Run the command line `argv` (default: this process's arguments); returns the exit code."""
    try:
        args = _parser().parse_args(argv)
        return args.run(args)
    except SystemExit as end:  # argparse after --help or --version
        return end.code or 0
    except KeyboardInterrupt:
        print("fastbp: interrupted", file=sys.stderr)
        return 130
    except (ValueError, OSError, ImportError, ArithmeticError, RuntimeError) as error:
        print(f"fastbp: error: {_one_line(error)}", file=sys.stderr)
        return 2


def _one_line(error):
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def _parser():
    parser = _Parser(prog="fastbp", description="Train multi-layer perceptrons at the speed of the machine.")
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    train = commands.add_parser(
        "train",
        help="train on a data set or a file",
        description=_TRAIN,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    train.set_defaults(run=_train)
    train.add_argument("data", metavar="DATA", help="digits, or a file")
    data = train.add_argument_group("data")
    data.add_argument("--target", metavar="T", help="column, array or file of the target")
    data.add_argument(
        "--test-fraction",
        type=_fraction,
        default=0.2,
        metavar="F",
        help="share held out for testing, class by class, the same samples for every --seed; "
        "not used where the file has a test part (default: 0.2)",
    )
    network = train.add_argument_group("network")
    network.add_argument(
        "--hidden",
        type=_hidden,
        default=(256, 128),
        metavar="N,N",
        help="widths of the hidden layers, or none (default: 256,128)",
    )
    network.add_argument(
        "--activation",
        default="relu",
        metavar="NAME",
        help="relu, leaky_relu, sigmoid, tanh, elu, gelu, silu, identity (default: relu)",
    )
    fit = train.add_argument_group("training")
    fit.add_argument(
        "--loss",
        metavar="NAME",
        help="cross_entropy, bce_with_logits, mse, mae, huber (default: cross_entropy for text and "
        "integer labels, mse for numbers)",
    )
    fit.add_argument(
        "--optimizer",
        default="adam",
        metavar="NAME",
        help="adam, adamw, sgd (with momentum 0.9) (default: adam)",
    )
    fit.add_argument("--lr", type=_positive, metavar="R", help="learning rate (default: 0.001; sgd: 0.01)")
    fit.add_argument(
        "--batch-size",
        type=_count,
        metavar="B",
        help="samples per step (default: 32 to 256, by the number of samples)",
    )
    fit.add_argument("--epochs", type=_count, default=20, metavar="E", help="(default: 20)")
    fit.add_argument(
        "--seed",
        type=_seed,
        default=0,
        metavar="S",
        help="of the initial weights and the order of samples (default: 0)",
    )
    machine = train.add_argument_group("machine and output")
    machine.add_argument(
        "--threads", type=_count, metavar="T", help="CPU threads (default: chosen by the network)"
    )
    machine.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, cuda (default: auto)")
    machine.add_argument(
        "--out",
        metavar="PATH",
        help="where the model and its picture go: a folder, or a name to which .safetensors and "
        ".png are added (default: ./fastbp-DATA)",
    )
    machine.add_argument("--quiet", action="store_true", help="no progress bar, only the results")

    info = commands.add_parser(
        "info", help="what this machine gives fastbp", description="What this machine gives fastbp."
    )
    info.set_defaults(run=_info)
    return parser


class _Version(argparse.Action):
    def __call__(self, parser, namespace, values, option=None):
        print(f"fastbp {_version()}")
        parser.exit()


def _train(args):
    from .cli_train import train

    return train(args)


def _version():
    from . import __version__

    return __version__


# --- what options take ---


def _number(text, kind, takes, fits):
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not fits(value):
        raise argparse.ArgumentTypeError(f"got {text!r}; takes {takes}")
    return value


def _count(text):
    return _number(text, int, "a whole number >= 1", lambda n: n >= 1)


def _seed(text):
    return _number(text, int, "a whole number from 0 to 2**63 - 1", lambda n: 0 <= n < 2**63)


def _positive(text):
    return _number(text, float, "a number > 0", lambda r: 0 < r < float("inf"))


def _fraction(text):
    return _number(text, float, "a number between 0 and 1", lambda r: 0 < r < 1)


def _hidden(text):
    if text.strip().lower() == "none":
        return ()
    takes = "widths such as 256,128, or none"
    return tuple(_number(width, int, f"{takes} (in {text!r})", lambda n: n >= 1) for width in text.split(","))


# --- info ---


def _info(args):
    """A short report: for questions such as why one machine is slower than another."""
    import os
    import platform

    import numba
    import numpy
    from llvmlite import binding

    from .backend import gpu_info, max_threads, usable_cores

    features = [name for name, on in binding.get_host_cpu_features().items() if on]
    wide = [name for name in ("avx512f", "avx2", "neon", "sve") if name in features]
    rows = {
        "fastbp": _version(),
        "python": f"{platform.python_version()}, {platform.system()} {platform.machine()}",
        "numpy": numpy.__version__,
        "numba": numba.__version__,
        "cpu": f"{binding.get_host_cpu_name()}, {len(features)} features, {', '.join(wide)}",
        "cores usable": f"{usable_cores()} of {os.cpu_count()}",
        "threads": f"up to {max_threads()}, layer {_threading_layer()}",
        "cache": _cache_place(),
        **gpu_info(),
    }
    for label, value in rows.items():
        print(f"{label:<15} {value}")
    return 0


def _threading_layer():
    """The layer numba will choose: the first of its order that loads here."""
    import importlib

    import numba

    asked = numba.config.THREADING_LAYER
    if asked in ("tbb", "omp", "workqueue"):
        return asked
    for name in numba.config.THREADING_LAYER_PRIORITY:
        try:
            importlib.import_module(f"numba.np.ufunc.{name}{'pool' * (name != 'workqueue')}")
        except ImportError:
            continue
        return name
    return "unknown"


def _cache_place():
    """Where machine code is kept, in numba's order: as told, beside the kernels, the user's."""
    import os
    from pathlib import Path

    from . import kernels

    told = os.environ.get("NUMBA_CACHE_DIR")
    if told:
        return told
    beside = Path(kernels.__file__).parent / "cpu"
    return str(beside / "__pycache__") if os.access(beside, os.W_OK) else "the user's cache folder"


if __name__ == "__main__":
    sys.exit(main())
