"""The command line: train, predict, evaluate, export, info, cache, bench. Parses, reports errors.

Exit codes: 0 done; 1 an error that nobody foresaw; 2 bad input, or no room for it; each with one line on
stderr (FASTBP_TRACEBACK=1 shows where). 130 interrupted by Ctrl-C, 143 by SIGTERM, 129 by SIGHUP; 141 nobody
reads the output any more (`fastbp predict ... | head`).
"""

from __future__ import annotations

import argparse
import csv
import importlib
import os
import sys
import warnings
from collections.abc import Sequence

_TRAIN = """\
Train a multi-layer perceptron on DATA, test it on a part held out, write the model and a picture.

DATA is a data set inside the package (digits) or a file:
  .csv .tsv      comma, semicolon or tab; the target is the last column, or --target NAME or INDEX
  .parquet       likewise, by polars or pyarrow
  .npz           arrays X and y, or x_train, y_train, x_test, y_test; or --target NAME
  .npy           features; --target is another .npy file, or the INDEX of a column
  .svmlight      sparse rows, the target first in each; by scikit-learn
  idx-ubyte      MNIST's format; the labels lie beside the images, or --target FILE
.csv, .tsv, .svmlight and idx files may be compressed by gzip (.gz). Columns of text are categories."""

_EXAMPLES = """\
examples:
  fastbp train digits
  fastbp train digits --hidden 512 --activation gelu --optimizer adamw --lr 2e-3 --epochs 30
  fastbp train iris.csv --target species --out models/iris
  fastbp train houses.csv --target price --loss huber
  fastbp train spam.csv --dropout 0.2 --patience 5 --epochs 200 --class-weight balanced
  fastbp train digits --seconds 10 --schedule cosine --norm layer
  fastbp train train-images-idx3-ubyte.gz --hidden 512,512 --threads 4

Numbers are standardised (bytes, such as pixels, by one common scale), text is one-hot, and the target
of a regression is standardised too. What does it is in the model's file: the model takes raw columns
by their names, and gives labels or values of the target's own unit."""

_PREDICT = """\
Write what MODEL predicts for each row of DATA: the label and the probabilities, or the values.
Columns are found by name; others (an id, the target) are passed over.

example:
  fastbp predict fastbp-iris.safetensors new.csv --out predictions.csv"""

_EVALUATE = """\
Score MODEL on DATA, which holds the target too: accuracy and loss, or RMSE, MAE and R2.

example:
  fastbp evaluate fastbp-iris.safetensors test.csv --json"""

_EXPORT = """\
Write MODEL for others, beside it or to the PATHs given. The inputs are raw: what scales them is part
of the export; a column of text is one input per category there, 1 where the row has it, else 0.

example:
  fastbp export fastbp-iris.safetensors --onnx --c model/iris.c"""

_INFO = "What this machine gives fastbp: versions, processor, threads, measured peak, cache."
_CACHE = "The machine code on disk. It is made on first use, some 10 to 20 s a precision; warm makes it now."
_BENCH = "Run python -m bench with the arguments that follow: --quick, --startup, --predict, --scale, ..."


class _Parser(argparse.ArgumentParser):
    """Errors as exceptions, so that `main` reports all of them alike, in one line."""

    def error(self, message):
        raise ValueError(f"{message} (see {self.prog} --help)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: this process's arguments); returns the exit code."""
    from .signals import Signals

    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # the caller has closed it
            setattr(sys, name, open(os.devnull, "w"))
    with Signals(last=argv is None) as signals:
        try:
            parser = _parser()
            args, args.arguments = parser.parse_known_args(argv)
            if args.arguments and args.command != "bench":  # which has options of its own
                parser.error(f"unrecognized arguments: {' '.join(args.arguments)}")
            args.signals = signals
            with warnings.catch_warnings():
                warnings.showwarning = _warn
                code = args.run(args)
            sys.stdout.flush()
            return code
        except SystemExit as end:  # argparse after --help or --version
            return int(end.code or 0)
        except KeyboardInterrupt:
            return _failed(signals.said, signals.code)
        except BrokenPipeError:
            return _failed(None, 141)
        except BaseException as error:  # a reader's panic is no Exception
            if os.environ.get("FASTBP_TRACEBACK"):
                raise
            return _failed(*_said(error))


def _warn(message, *_):
    text = " ".join(str(message).split()).removeprefix("X: ").replace("unknown='error'", "--unknown error")
    print(f"fastbp: warning: {text}", file=sys.stderr)


def _failed(line, code):
    """Say the line on stderr; what is not written to stdout by now will not be."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the flush at the end complains
    if line is not None:
        print(f"fastbp: {line}", file=sys.stderr)
    return code


_FORESEEN = (ValueError, TypeError, OSError, ImportError, ArithmeticError, RuntimeError, MemoryError)


def _said(error):
    """(what is said of an error, the exit code)."""
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    elif isinstance(error, MemoryError):
        text = f"not enough memory{': ' * bool(text)}{text}"
    if isinstance(error, _FORESEEN):
        return f"error: {text or type(error).__name__}", 2
    return f"error: {type(error).__name__}: {text} (FASTBP_TRACEBACK=1 shows where)", 1


def _parser():
    parser = _Parser(prog="fastbp", description="Train multi-layer perceptrons at the speed of the machine.")
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    train = _command(commands, "train", "train on a data set or a file", _TRAIN, "train")
    train.epilog = _EXAMPLES
    train.add_argument("data", metavar="DATA", help="digits, or a file, or - for a .csv on stdin")
    data = train.add_argument_group("data")
    data.add_argument("--target", metavar="T", help="column, array or file of the target")
    data.add_argument("--drop", type=_listed, default=(), metavar="A,B", help="columns to leave out, by name")
    data.add_argument("--keep", type=_listed, default=(), metavar="A,B", help="columns to take although they "
                      "number the rows, or hold one value or names: these are left out")  # fmt: skip
    data.add_argument(
        "--test-fraction",
        type=_share,
        default=0.2,
        metavar="F",
        help="share held out for testing, class by class, the same samples for every --seed; 0: none; "
        "not used where the file has a test part (default: 0.2)",
    )
    data.add_argument(
        "--id",
        type=_listed,
        default=(),
        metavar="A,B",
        help="columns that tell rows apart: no features; fastbp predict takes them along",
    )
    data.add_argument(
        "--text",
        type=_listed,
        default=(),
        metavar="A,B",
        help="columns that are categories whatever they hold, such as codes; of the target: labels",
    )
    _add_drop_missing(data)
    _add_dialect(data)
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
        help="relu, leaky_relu, prelu, tanh, sigmoid, elu, selu, gelu, silu, mish, ... (default: relu)",
    )
    network.add_argument("--dropout", type=_share, default=0.0, metavar="P", help="share of each hidden "
                         "layer's outputs that a training step drops (default: 0)")  # fmt: skip
    network.add_argument(
        "--norm", metavar="NAME", help="layer or batch, in each hidden layer (default: none)"
    )
    network.add_argument("--residual", action="store_true", help="add a hidden layer's input to its output "
                         "where the widths agree")  # fmt: skip
    fit = train.add_argument_group("training")
    fit.add_argument(
        "--loss",
        metavar="NAME",
        help="cross_entropy, bce_with_logits, mse, mae, huber, log_cosh (default: cross_entropy for labels, "
        "which are text or few whole numbers, mse for numbers; the first line says which)",
    )
    fit.add_argument(
        "--optimizer",
        default="adam",
        metavar="NAME",
        help="adam, adamw, sgd (with momentum 0.9), nadam, radam, adamax, rmsprop, adagrad, adadelta, lion "
        "(default: adam)",
    )
    fit.add_argument(
        "--lr", type=_positive, metavar="R", help="learning rate (default: torch's; adam: 0.001)"
    )
    fit.add_argument(
        "--batch-size",
        type=_count,
        metavar="B",
        help="samples per step (default: 32 to 256, by the number of samples)",
    )
    fit.add_argument(
        "--epochs",
        type=_count,
        metavar="E",
        help="at most (default: 100, or 3000 steps where that is more; 20 where none are held out to stop "
        "by; or as many as --seconds allow)",
    )
    fit.add_argument("--seconds", type=_positive, metavar="S", help="stop after so much training")
    fit.add_argument(
        "--patience",
        type=_count_from_0,
        metavar="E",
        help="stop when the validation loss has not improved for so many epochs, with the best weights; 0: "
        "never (default: 10, or 200 steps; 0 with a --schedule that has an end, or under 400 samples)",
    )
    fit.add_argument(
        "--validation-fraction",
        type=_fraction,
        metavar="F",
        help="share of the samples to train on that is held out for the validation loss (default: 0.1, with "
        "--patience 0 none)",
    )
    fit.add_argument(
        "--schedule",
        metavar="NAME",
        help="of the learning rate: cosine, onecycle, polynomial, exponential, plateau, ... (default: none)",
    )
    fit.add_argument("--weight-decay", type=_from_0, metavar="R", help="(default: the optimizer's own)")
    fit.add_argument("--clip-norm", type=_positive, metavar="R", help="largest norm of a step's gradient")
    fit.add_argument(
        "--class-weight",
        choices=("balanced",),
        help="each class counts alike, however many samples it has",
    )
    fit.add_argument(
        "--ensemble",
        type=_count,
        default=1,
        metavar="N",
        help="so many networks, which differ by their seeds and are trained at once: one model, which "
        "predicts their mean (default: 1)",
    )
    fit.add_argument(
        "--seed",
        type=_seed,
        default=0,
        metavar="S",
        help="of the initial weights and the order of samples (default: 0)",
    )
    machine = train.add_argument_group("machine and output")
    _add_machine_options(machine)
    machine.add_argument(
        "--out",
        metavar="PATH",
        help="where the model and its picture go: a folder, or a name to which .safetensors and "
        ".png are added (default: ./fastbp-DATA)",
    )
    machine.add_argument("--overwrite", action="store_true", help="replace a model that is there already")
    machine.add_argument(
        "--checkpoint-every",
        type=_count,
        metavar="E",
        help="every so many epochs write the run beside the model, as .checkpoint, to go on from",
    )
    machine.add_argument(
        "--resume",
        action="store_true",
        help="go on from the checkpoint of the same command, to the same bits; without one begin",
    )
    machine.add_argument(
        "--report", metavar="PATH", help="write a self-contained HTML page: scores, pictures, machine"
    )
    machine.add_argument("--quiet", action="store_true", help="no progress bar, only the results")
    _add_json(machine)

    _add_use(commands)
    _add_machine(commands)
    return parser


def _add_use(commands):
    """predict, evaluate, export: what takes a model."""
    predict = _command(commands, "predict", "predictions of a model for the rows of a file", _PREDICT, "use")
    evaluate = _command(commands, "evaluate", "score a model on a file with the target", _EVALUATE, "use")
    for parser in (predict, evaluate):
        parser.add_argument("model", metavar="MODEL", help="a .safetensors file that fastbp train wrote")
        parser.add_argument("data", metavar="DATA", help="a file, as for fastbp train, or - for stdin")
        _add_dialect(parser.add_argument_group("how DATA is written, a .csv or .tsv"))
    for parser in (predict, evaluate):
        parser.add_argument(
            "--unknown",
            choices=("zeros", "error"),
            help="what a category becomes that the training never saw: zeros, with a count on stderr, or an "
            "error (default: zeros)",
        )
    predict.add_argument(
        "--out", metavar="PATH", help="a .csv, .tsv, .parquet or .npy file (default: csv to stdout)"
    )
    predict.add_argument(
        "--id",
        type=_listed,
        default=(),
        metavar="A,B",
        help="columns of DATA that go along (default: those of the training)",
    )
    predict.add_argument(
        "--std",
        action="store_true",
        help="of an ensemble: beside the values the standard deviation between its networks, beside labels "
        "their disagreement, in nats",
    )
    evaluate.add_argument("--target", metavar="T", help="column, array or file (default: as in training)")
    _add_drop_missing(evaluate)
    export = _command(commands, "export", "write a model for others: ONNX, C, torch", _EXPORT, "use")
    export.add_argument("model", metavar="MODEL", help="a .safetensors file that fastbp train wrote")
    for name, what in (
        ("onnx", "ONNX, opset 13, float32"),
        ("c", "one C99 file without dependencies: void predict(const double *x, double *y)"),
        ("torch", "torch.nn.Sequential's state_dict, as .safetensors"),
    ):
        export.add_argument(f"--{name}", nargs="?", const="", metavar="PATH", help=what)
    for parser in (predict, evaluate, export):
        _add_machine_options(parser)
        _add_json(parser)


def _add_machine(commands):
    """info, cache, bench: the machine."""
    _add_json(_command(commands, "info", "what this machine gives fastbp", _INFO, "info"))
    cache = _command(commands, "cache", "machine code on disk: clear or warm", _CACHE, "info")
    cache.add_argument("action", choices=("clear", "warm"), help="remove it, or compile all of it now")
    _add_json(cache)
    _command(commands, "bench", "the benchmark, in a clone of the repository", _BENCH, "info", False)


def _command(commands, name, help, description, module, has_help=True):
    """A command whose work is the function of its name in MODULE, imported when it is called."""
    parser = commands.add_parser(
        name,
        help=help,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=has_help,
    )

    def run(args):
        return getattr(importlib.import_module(f"fastbp.cli.{module}"), name)(args)

    parser.set_defaults(run=run)
    return parser


def _add_machine_options(group):
    group.add_argument(
        "--threads", type=_count, metavar="T", help="CPU threads (default: chosen by the network)"
    )
    group.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, cuda (default: auto)")


def _add_drop_missing(group):
    group.add_argument("--drop-missing", action="store_true", help="leave rows out that have no target")


def _add_dialect(group):
    group.add_argument(
        "--delimiter", metavar="C", help="between cells: a character, tab or space (default: seen)"
    )
    group.add_argument(
        "--encoding", metavar="NAME", help="such as cp1252, utf-16 (default: its mark's, or utf-8)"
    )
    group.add_argument("--comment", metavar="C", help="lines that begin with it are passed over")
    group.add_argument("--decimal", choices=(".", ","), help="what stands before the decimals")
    group.add_argument("--dates", choices=("dmy", "mdy"), help="what 01/02/2020 begins with: day or month")
    group.add_argument("--no-header", action="store_true", help="the first line is data")
    group.add_argument(
        "--na",
        type=_listed,
        metavar="A,B",
        help="cells that mean a missing value, beside empty ones (default: NA, N/A, nan, null, None, ?); '' "
        "for none",
    )


def _add_json(group):
    group.add_argument("--json", action="store_true", help="print one JSON object, for machines")


class _Version(argparse.Action):
    def __call__(self, parser, namespace, values, option=None):
        print(f"fastbp {_version()}")
        parser.exit()


def _version():
    from .. import __version__

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


def _count_from_0(text):
    return _number(text, int, "a whole number >= 0", lambda n: n >= 0)


def _seed(text):
    return _number(text, int, "a whole number from 0 to 2**63 - 1", lambda n: 0 <= n < 2**63)


def _positive(text):
    return _number(text, float, "a number > 0", lambda r: 0 < r < float("inf"))


def _from_0(text):
    return _number(text, float, "a number >= 0", lambda r: 0 <= r < float("inf"))


def _share(text):
    return _number(text, float, "a number from 0 to below 1", lambda r: 0 <= r < 1)


def _fraction(text):
    return _number(text, float, "a number between 0 and 1", lambda r: 0 < r < 1)


def _listed(text):
    """Names between commas; those with commas in double quotes."""
    (names,) = csv.reader([text], skipinitialspace=True) if text else [[]]
    return tuple(name.strip() for name in names if name.strip())


def _hidden(text):
    if text.strip().lower() == "none":
        return ()
    takes = "widths such as 256,128, or none"
    return tuple(_number(width, int, f"{takes} (in {text!r})", lambda n: n >= 1) for width in text.split(","))
