"""`fastbp predict`, `evaluate` and `export`: what is done with a model that `train` wrote."""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import files
from ..data.frames import Frame
from ..export import LINKS, described, state_dict
from ..printing import print_rows
from ..training.ensemble import Ensemble
from ..writing import written
from .models import load, trainers_of
from .reading import of_a_model, placed, target_of
from .scoring import score, score_rows

if TYPE_CHECKING:
    from argparse import Namespace

    from ..training.trainer import Trainer
    from ..types import Array

_OUT = (".csv", ".tsv", ".parquet", ".npy")


def predict(args: Namespace) -> int:
    """Write a table of predictions: labels and probabilities, or numbers; a row for each of DATA's."""
    path = None if args.out is None else Path(args.out)
    if path is not None and path.suffix not in _OUT:
        raise ValueError(f"--out: got {path.name!r}, takes a name that ends in {', '.join(_OUT)}")
    model = load(args)
    if args.std and not isinstance(model, Ensemble):
        raise ValueError("--std: got a model of one network, takes an ensemble: fastbp train --ensemble 8")
    trainer = trainers_of(model)[0]
    preparation = trainer.preparation
    columns = trainer.net.sizes[0] if preparation is None else preparation.columns
    wanted, dialect = of_a_model(args, trainer)
    if args.id:
        wanted = replace(wanted, ids=args.id, of_a_model=False)
    table = files.features(args.data, wanted, columns, dialect)
    with placed(args.data, table):
        outputs = model.predict(table.X)
        spread, spreads = _spread(model, table.X) if args.std else ([], None)
    names, found = _predictions(trainer, outputs, table.ids, spread)
    if spreads is not None:
        outputs, found = np.hstack([outputs, spreads]), [*found, *spreads.T]
    rows = len(outputs)
    if path is None:
        if args.json:
            listed = [list(row) for row in zip(*(column.tolist() for column in found), strict=True)]
            print(
                json.dumps(
                    {"command": "predict", "rows": rows, "columns": names, "predictions": listed}, default=str
                )
            )
        else:
            _write_csv(sys.stdout, names, found)
        return 0
    text = {"encoding": "utf-8", "newline": ""} if path.suffix in (".csv", ".tsv") else {}
    with written(path, "w" if text else "wb", **text) as file:
        _write(file, path.suffix, names, found, outputs)
    if args.json:
        print(json.dumps({"command": "predict", "rows": rows, "columns": names, "out": str(path)}))
    else:
        print_rows([("predictions", f"{path}  ({rows:,} rows: {', '.join(names[:6])})")])
    return 0


def _spread(model: Any, X: Any) -> tuple[list[str], Array]:
    """(names, (N, columns)) of how far an ensemble's networks are apart."""
    trainer = model.trainers[0]
    if LINKS[trainer.loss.link_code(trainer.net.sizes[-1])] in ("softmax", "sigmoid"):
        found, name = model.disagreement(X), "disagreement"
        found = found.reshape(len(found), -1)
    else:
        name = (trainer.preparation and trainer.preparation.target) or "prediction"
        name, found = f"{name} std", model.predict(X, return_std=True)[1]
    n = found.shape[1]
    return ([name] if n == 1 else [f"{name} {i}" for i in range(n)]), found


def _predictions(
    trainer: Trainer, outputs: Array, ids: Frame | None, spread: list[str]
) -> tuple[list[str], list[Array]]:
    """(names, columns): what goes along, then the label, where there are classes, then numbers; and names of
    the columns of a spread that come behind them."""
    preparation = trainer.preparation
    classes = None if preparation is None else preparation.classes
    target = "prediction" if preparation is None or not preparation.target else preparation.target
    names, columns = (list(ids.names), [_as_it_is(c) for c in ids.columns]) if ids else ([], [])
    n = outputs.shape[1]
    if preparation is None or classes is None:
        names += [target] if n == 1 else [f"{target} {i}" for i in range(n)]
    else:
        names += [target, *(f"probability {label}" for label in classes[-n:])]
        columns.append(np.array(preparation.labels(outputs)))
    names += spread
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"--id: got {twice[0]!r}, which the predictions have too; takes other columns")
    return names, [*columns, *outputs.T]


def _as_it_is(column: Array) -> Array:
    """A column that goes along: fractions as text, or they would be rounded as predictions are."""
    return np.array([repr(v) for v in column.tolist()]) if column.dtype.kind == "f" else column


def _write(file: Any, suffix: str, names: list[str], columns: list[Array], outputs: Array) -> None:
    if suffix == ".npy":
        np.save(file, outputs)
    elif suffix == ".parquet":
        try:
            from pyarrow import parquet, table
        except ImportError:
            raise ImportError(
                "--out: pyarrow is needed for .parquet: pip install 'fastbp[parquet]'"
            ) from None
        parquet.write_table(table(dict(zip(names, columns, strict=True))), file)
    else:
        _write_csv(file, names, columns, "\t" if suffix == ".tsv" else ",")


def _write_csv(stream: Any, names: list[str], columns: list[Array], delimiter: str = ",") -> None:
    writer = csv.writer(stream, delimiter=delimiter, lineterminator="\n")
    writer.writerow(names)
    # what is float64 is in a target's own unit: 7 digits of a time in seconds are days
    forms = [".7g" if column.dtype == np.float32 else ".15g" for column in columns]
    for row in zip(*(column.tolist() for column in columns), strict=True):
        writer.writerow(
            [format(v, form) if isinstance(v, float) else v for v, form in zip(row, forms, strict=True)]
        )


def evaluate(args: Namespace) -> int:
    """Score a model on DATA, which holds the target too."""
    model = load(args)
    trainer = trainers_of(model)[0]
    wanted, dialect = of_a_model(args, trainer)
    wanted = replace(wanted, target=target_of(args, trainer), ids=(), drop_missing=args.drop_missing)
    table = files.read(args.data, wanted, dialect)
    X, y = table.X, table.y
    if table.X_test is not None:
        X, y = table.X_test, table.y_test
    if table.classes is not None:
        y = np.array(table.classes)[y]
    if table.feature_names and not hasattr(X, "names"):
        X = Frame(table.feature_names, list(X.T))
    with placed(args.data, table):
        scores = score(model, X, y)
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
    model = load(args)
    if args.torch is not None and isinstance(model, Ensemble):
        raise ValueError(
            f"--torch: got an ensemble of {len(model)}, takes a model of one network; --onnx, --c write all"
        )
    made = {}
    for name in wanted:
        suffix = {"onnx": ".onnx", "c": ".c", "torch": ".pt.safetensors"}[name]
        path = Path(getattr(args, name) or Path(args.model).with_suffix(suffix))
        path.parent.mkdir(parents=True, exist_ok=True)
        if name == "onnx":
            model.to_onnx(path)
        elif name == "c":
            model.to_c(path)
        else:
            _write_state(model, path)
        made[name] = str(path)
    if args.json:
        print(json.dumps({"command": "export", "model": str(args.model), **made}))
    else:
        print_rows(made.items())
    return 0


def _write_state(trainer, path):
    """The state_dict of ``to_torch()`` as safetensors: no pickle, and no torch is needed."""
    from safetensors.numpy import save

    with written(path) as file:
        file.write(save(state_dict(described(trainer, link=False))))
