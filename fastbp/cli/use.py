"""`fastbp predict`, `evaluate` and `export`: what is done with a model that `train` wrote."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import files
from ..data.frames import Frame
from ..export import described, state_dict
from ..printing import print_rows
from ..training.trainer import load
from .train import score, score_rows

if TYPE_CHECKING:
    from argparse import Namespace


def _model(args):
    path = Path(args.model)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file; takes a model that fastbp train wrote")
    return load(path, device=args.device, threads=args.threads)


def _names(trainer):
    """Names of the columns that a model takes, or None."""
    return trainer.columns if trainer.preparation is None else trainer.preparation.needed


def _text(trainer):
    """Names of its columns of text."""
    return () if trainer.preparation is None else trainer.preparation.needed_text


def predict(args: Namespace) -> int:
    """Write a table of predictions: labels and probabilities, or numbers; a row for each of DATA's."""
    trainer = _model(args)
    preparation = trainer.preparation
    columns = trainer.net.sizes[0] if preparation is None else preparation.columns
    X = files.features(args.data, _names(trainer), columns, _text(trainer))
    outputs = trainer.predict(X)
    names, table = _predictions(trainer, outputs)
    if args.out is None:
        if args.json:
            print(
                json.dumps({"command": "predict", "rows": len(table), "columns": names, "predictions": table})
            )
        else:
            _write_csv(sys.stdout, names, table)
        return 0
    path = Path(args.out)
    if path.suffix == ".npy":
        np.save(path, outputs)
    elif path.suffix in (".csv", ".tsv"):
        with open(path, "w", newline="", encoding="utf-8") as stream:
            _write_csv(stream, names, table, "\t" if path.suffix == ".tsv" else ",")
    else:
        raise ValueError(f"--out: got {path.name!r}, takes a name that ends in .csv, .tsv or .npy")
    if args.json:
        print(json.dumps({"command": "predict", "rows": len(outputs), "columns": names, "out": str(path)}))
    else:
        print_rows([("predictions", f"{path}  ({len(outputs):,} rows: {', '.join(names[:6])})")])
    return 0


def _predictions(trainer, outputs):
    """(column names, rows as lists): the label first, where there are classes."""
    preparation = trainer.preparation
    classes = None if preparation is None else preparation.classes
    target = "prediction" if preparation is None or not preparation.target else preparation.target
    if classes is None:
        n = outputs.shape[1]
        return [target] if n == 1 else [f"{target} {i}" for i in range(n)], outputs.tolist()
    names = [target, *(f"probability {label}" for label in classes[-outputs.shape[1] :])]
    labels = preparation.labels(outputs)
    return names, [[label, *row] for label, row in zip(labels, outputs.tolist(), strict=True)]


def _write_csv(stream, names, table, delimiter=","):
    writer = csv.writer(stream, delimiter=delimiter, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([f"{v:.7g}" if isinstance(v, float) else v for v in row] for row in table)


def evaluate(args: Namespace) -> int:
    """Score a model on DATA, which holds the target too."""
    trainer = _model(args)
    preparation = trainer.preparation
    target = args.target
    if target is None and preparation is not None and preparation.names:
        target = preparation.target
    table = files.read(args.data, target, only=_names(trainer) or (), text=_text(trainer))
    X, y = table.X, table.y
    if table.X_test is not None:
        X, y = table.X_test, table.y_test
    if table.classes is not None:
        y = np.array(table.classes)[y]
    if table.feature_names and not hasattr(X, "names"):
        X = Frame(table.feature_names, list(X.T))
    scores = score(trainer, X, y)
    if args.json:
        print(json.dumps({"command": "evaluate", "model": str(args.model), "data": str(args.data), **scores}))
    else:
        print_rows([("model", args.model), ("data", table.source), ("samples", f"{scores['samples']:,}")])
        print_rows(score_rows(scores))
    return 0


def export(args: Namespace) -> int:
    """Write a model as ONNX, C or a torch state_dict: each file beside the model, or where it was told."""
    wanted = [name for name in ("onnx", "c", "torch") if getattr(args, name) is not None]
    if not wanted:
        raise ValueError("export: takes --onnx, --c or --torch")
    trainer = _model(args)
    written = {}
    for name in wanted:
        suffix = {"onnx": ".onnx", "c": ".c", "torch": ".pt.safetensors"}[name]
        path = Path(getattr(args, name) or Path(args.model).with_suffix(suffix))
        path.parent.mkdir(parents=True, exist_ok=True)
        if name == "onnx":
            trainer.to_onnx(path)
        elif name == "c":
            trainer.to_c(path)
        else:
            _write_state(trainer, path)
        written[name] = str(path)
    if args.json:
        print(json.dumps({"command": "export", "model": str(args.model), **written}))
    else:
        print_rows(written.items())
    return 0


def _write_state(trainer, path):
    """The state_dict of ``to_torch()`` as safetensors: no pickle, and no torch is needed."""
    from safetensors.numpy import save_file

    save_file(state_dict(described(trainer, link=False)), str(path))
