"""Fitted estimators as files: a model file that holds their parameters and records too, ONNX, C."""

from __future__ import annotations

import re
from dataclasses import is_dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ..data.columns import Dates
from ..data.written import Written
from ..engine.devices import device as checked_device
from ..errors import whole
from ..export import cfile, described, onnxfile
from ..losses import Loss
from ..losses import loss as make_loss
from ..optimizers import OPTIMIZERS, Optimizer
from ..training import checkpoint
from ..training.trainer import Trainer
from ..writing import written
from . import parameters, tabular
from .losses import ChosenLoss
from .tabular import TabularPreprocessor

if TYPE_CHECKING:
    from ..export import Model
    from ..types import FilePath

_KINDS = "biufUO"  # of arrays: labels, names, numbers
_MADE_ANEW = ("_p", "_trainer", "estimators_")  # from the parameters; from the rest of the file
# of attributes that ``_plain`` takes
_RECORDS: tuple[type, ...] = (TabularPreprocessor, tabular.Column, Dates, Written, ChosenLoss)

NETWORKS = ("_trainer", "estimators_")  # of one, of several

_NONE = type(None)
# what every fit leaves that later ones read, what those by steps do, and one with a preset: of what types
_LEFT: dict[str, Any] = {
    **dict.fromkeys(("n_iter_", "t_", "n_layers_", "n_outputs_", "n_features_in_"), int),
    "_chosen_loss": ChosenLoss, "_made_with": dict,
}  # fmt: skip
_BY_STEPS: dict[str, Any] = {
    "loss_curve_": list, "_no_improvement_count": int,
    **dict.fromkeys(("best_loss_", "best_validation_score_"), (int, float, _NONE)),
    **dict.fromkeys(("validation_scores_", "validation_loss_curve_"), (list, _NONE)),
}  # fmt: skip
_BY_PRESET = {"_table": TabularPreprocessor}

T = TypeVar("T", bound="Saving")


class Saving:
    """What a fitted estimator writes; ``load`` reads it."""

    _trainer: Trainer
    estimators_: list[Any]
    _member: Any  # (seed) -> one of an ensemble's networks
    _for_members: Any  # () -> {attribute: value} that these have in common
    _left: dict[str, Any] = {}  # what a fit leaves in this class beside _LEFT
    device: Any

    def save(self, path: FilePath) -> None:
        """Write the fitted estimator to one .safetensors file: whole or not at all, without code.

        Parameters, fitted attributes, weights and the solver's state: ``load`` predicts the same, and
        partial_fit and warm_start go on as they would have. fb.load reads the file as a Trainer, of several
        networks fb.Ensemble.load as an Ensemble. Raises
        TypeError for what is no number, text, list, optimizer or loss, such as callbacks and a RandomState
        (set them to None before), OSError, and NotFittedError.
        """
        check_is_fitted(self, NETWORKS, all_or_any=any)
        kind: Any = type(self)
        given = {name: getattr(self, name) for name in parameters.defaults(kind)}
        left = self._left_by_fit()
        more = {"class": kind.__name__, "parameters": _plains(given), "fitted": _plains(left)}
        if "estimators_" not in vars(self):
            checkpoint.save(self._trainer, path, {"estimator": more})
            return
        more["members"], shared = [], self._for_members()
        for member in self.estimators_:
            own = {k: v for k, v in member._left_by_fit().items() if v is not shared.get(k, ...)}
            more["members"].append({"random_state": member.random_state, "fitted": _plains(own)})
        checkpoint.save_members(self._trainers(), path, {"estimator": more})

    @property
    def _fitted(self):
        return any(name in vars(self) for name in NETWORKS)

    def _trainers(self):
        """Those of its networks."""
        if "estimators_" in vars(self):
            return [trainer for member in self.estimators_ for trainer in member._trainers()]
        return [self._trainer]

    def _left_by_fit(self):
        """{attribute: value} that a file holds beside parameters and networks."""
        given: Any = parameters.defaults(type(self))
        return {k: v for k, v in vars(self).items() if k not in given and k not in _MADE_ANEW}

    @classmethod
    def load(cls: type[T], path: FilePath, **changed: Any) -> T:
        """The estimator that ``save`` wrote; changed : parameters to be set, such as device or threads.

        Raises ValueError for a file that is none of this class, or damaged, OSError.
        """
        trainers, config = checkpoint.load_members(Trainer, path, "cpu", None, None)
        try:
            more = config["estimator"]
            if more["class"] != cls.__name__:
                raise ValueError(f"holds a {more['class']}, takes a {cls.__name__}")
            kind: Any = cls
            self = kind(**{name: _object(value) for name, value in more["parameters"].items()})
            self._take(more["fitted"], None)
            if "members" in config:
                self.estimators_ = []
                for trainer, kept in zip(trainers, more["members"], strict=True):
                    member = self._member(whole("random_state", kept["random_state"], 0, 2**32 - 1))
                    member._take(kept["fitted"], trainer)
                    self.estimators_.append(member)
            else:
                (self._trainer,) = trainers
            for one in vars(self).get("estimators_", [self]):
                one._check_taken()
            self._set_parameters()
            if self._p.n_ensemble != len(trainers):
                raise ValueError(f"n_ensemble: got {self._p.n_ensemble} and {len(trainers)} networks")
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise ValueError(f"{path}: holds no {cls.__name__} ({error})") from None
        self.set_params(**changed)
        for trainer in trainers:
            trainer.device, trainer.threads = checked_device(self.device), self._threads()
        return self

    def _take(self, fitted, trainer):
        """Set the attributes of a file, and those of one network."""
        if trainer is not None:
            self._trainer = trainer
        kind: Any = type(self)
        for name, value in fitted.items():
            if not re.fullmatch(r"_?[a-z][a-z0-9_]*", name) or name in _MADE_ANEW:
                raise ValueError(f"got {name!r} for a fitted attribute")
            if name in parameters.defaults(kind) or hasattr(kind, name):
                raise ValueError(f"got {name!r} for a fitted attribute")
            setattr(self, name, _object(value))

    def _check_taken(self):
        """Raises ValueError where attributes of one network are absent, or odd."""
        self._set_parameters()
        left = {**_LEFT, **self._left, **(_BY_STEPS if self.solver != "lbfgs" else {}),
                **(_BY_PRESET if self.preset is not None else {})}  # fmt: skip
        for name, takes in left.items():
            if not isinstance(vars(self).get(name, ...), takes):
                raise ValueError(f"{name}: got {vars(self).get(name, 'none')!r}")
        if self._chosen_loss.columns != self._trainer.net.sizes[-1]:
            raise ValueError("its loss does not fit its network")

    def to_onnx(self, path: FilePath) -> None:
        """Write the network as ONNX, opset 13: X (N, features) to Y (N, outputs).

        Y is what predict of a regressor gives, and of a classifier the network's probabilities, of several
        networks their mean: one column for two classes, that of the second, else one a class or label.
        float32; X, and Y of a regression, are double with a preset, whose preparation is part of it, but for
        columns that are not numbers: their
        inputs are those of TabularPreprocessor. Metadata: inputs, classes. Raises ImportError without onnx,
        ValueError for what has no export, OSError, NotFittedError.
        """
        onnxfile.write(self._exported(), path)

    def to_c(self, path: FilePath, name: str = "predict") -> None:
        """Write the network as one C99 file: ``void name(const float *x, float *y)``, as ``to_onnx`` has it.

        double where the network is float64, and for raw x and y. Raises as ``to_onnx`` does, and for a name
        that C or C++ does not take.
        """
        text = cfile.source(self._exported(), name)
        with written(path, "w", encoding="utf-8") as file:
            file.write(text)

    def _exported(self) -> list[Model]:
        check_is_fitted(self, NETWORKS, all_or_any=any)
        return [self._complete(described(trainer)) for trainer in self._trainers()]

    def _complete(self, model: Model) -> Model:
        """The model of a network, with what stands before and behind it."""
        model.classes = _labels(getattr(self, "classes_", None))
        model.inputs = _labels(getattr(self, "feature_names_in_", None))
        table, unit = vars(self).get("_table"), vars(self).get("_unit")
        if table is not None:
            model.inputs = _labels(table.get_feature_names_out())
            model.fill = model.mean = table.center_
            with np.errstate(divide="ignore"):  # a constant column counts for nothing
                model.scale = np.minimum(1 / table.factor_, np.finfo(float).max)
            model.clip = tabular.LIMIT
        if unit is not None:
            if model.link == "gaussian":
                raise ValueError("loss: got gaussian_nll with a preset, of which an export has no deviations")
            of_outputs = (np.broadcast_to(v, model.sizes[-1]) for v in unit)
            model.y_mean, model.y_scale, model.y_low, model.y_high = of_outputs
        return model


def _labels(values: Any) -> list[Any] | None:
    return None if values is None else np.asarray(values).tolist()


def _plains(values: dict[str, Any]) -> dict[str, Any]:
    return {name: _plain(name, value) for name, value in values.items()}


def _plain(name: str, value: Any) -> Any:
    """A value as JSON has it; what is no JSON of itself as {kind: what it is made of}."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value.item() if isinstance(value, np.generic) else value
    if isinstance(value, np.generic):
        return _plain(name, value.item())
    if isinstance(value, np.ndarray) and value.dtype.kind in _KINDS:
        dtype = "O" if value.dtype.kind == "O" else value.dtype.str
        return {"array": [dtype, [_plain(name, v) for v in value.ravel().tolist()], list(value.shape)]}
    if isinstance(value, (tuple, list)):
        return {type(value).__name__: [_plain(name, v) for v in value]}
    if isinstance(value, dict):
        return {"dict": [[_plain(name, k), _plain(name, v)] for k, v in value.items()]}
    if isinstance(value, (Optimizer, Loss)):
        return {"optimizer" if isinstance(value, Optimizer) else "loss": value.config()}
    if type(value) in _RECORDS:
        return {type(value).__name__: {k: _plain(name, v) for k, v in vars(value).items()}}
    raise TypeError(f"{name}: got {value!r}, which a file does not hold; set it to None before, or pickle")


def _object(value: Any) -> Any:
    """What ``_plain`` was given."""
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "array":
        dtype, values, shape = content
        if np.dtype(dtype).kind not in _KINDS:
            raise ValueError(f"got an array of {dtype}")
        array = np.empty(len(values), dtype)
        array[:] = [_object(v) for v in values]
        return array.reshape(shape)
    if kind in ("tuple", "list"):
        return (tuple if kind == "tuple" else list)(map(_object, content))
    if kind == "dict":
        return {_object(k): _object(v) for k, v in content}
    if kind == "optimizer":
        content = dict(content)
        return OPTIMIZERS[content.pop("name")](**content)
    if kind == "loss":
        content = dict(content)
        return make_loss(content.pop("name"), **content)
    record = {made.__name__: made for made in _RECORDS}[kind]
    fields = {name: _object(v) for name, v in content.items()}
    if is_dataclass(record):
        return record(**fields)
    made: Any = object.__new__(record)
    vars(made).update(fields)
    return made
