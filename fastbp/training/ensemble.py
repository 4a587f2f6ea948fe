"""Ensemble: several networks that answer together."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from .. import metrics as measures
from ..data import checks
from ..data.sources import plain
from ..engine.samples import Samples, features, in_own_units, own_scale, samples
from ..errors import flag
from ..export import LINKS, cfile, described, onnxfile
from ..network.mlp import MLP
from ..printing import html_table
from ..writing import written
from . import checkpoint
from .many import checked, fit_many
from .trainer import Trainer

if TYPE_CHECKING:
    from ..callbacks import EarlyStopping
    from ..engine.history import History
    from ..types import (
        Array,
        Batch,
        Device,
        Doubles,
        Features,
        FilePath,
        Floats,
        MetricsLike,
        Offset,
        SampleWeight,
        Targets,
        Verbose,
    )

_OF_CLASSES = ("softmax", "sigmoid")  # links


class Ensemble:
    """Several networks for the same task, trained together and asked together: their mean, and how far they
    are apart (Lakshminarayanan, Pritzel and Blundell, NeurIPS 2017).

    Parameters
    ----------
    trainers : Trainers, one or more
        Of any widths, depths, optimizers and options, but of the same inputs, outputs, loss, dtype, device,
        columns and preparation.

    Attributes: ``trainers``, a list: each works by itself, too. Raises ValueError or TypeError for those that
    do not go together.

    >>> trainers = [fb.Trainer(fb.MLP([4, 8, 4], seed=seed), seed=seed) for seed in range(3)]
    >>> ensemble = fb.Ensemble(trainers)
    >>> histories = ensemble.fit(X, y, epochs=20)
    >>> mean = np.mean([trainer.predict(X) for trainer in trainers], axis=0)
    >>> np.allclose(ensemble.predict(X), mean), ensemble.disagreement(X).shape
    (True, (4,))
    """

    def __init__(self, trainers: Iterable[Trainer]) -> None:
        self.trainers = checked(trainers)
        first, *rest = self.trainers
        takes = _shared(first)
        for i, trainer in enumerate(rest, 1):
            for name, value in _shared(trainer).items():
                if not _same(value, takes[name]):
                    raise ValueError(
                        f"trainers: got {name} {_said(value)} at place {i} and {_said(takes[name])} at place "
                        "0, takes the same for all"
                    )
            trainer.preparation = first.preparation  # an equal one: X is prepared once

    # --- training

    def fit(
        self,
        X: Features,
        y: Targets,
        epochs: int | Sequence[int] | None = None,
        *,
        bootstrap: bool = False,
        rows: Sequence[Any] | None = None,
        seconds: float | None = None,
        validation_data: Batch | None = None,
        validation_rows: Sequence[Any] | None = None,
        metrics: MetricsLike | None = None,
        callbacks: Sequence[Any] | Callable[[int], Any] | None = None,
        early_stopping: int | EarlyStopping | None = None,
        shuffle: bool = True,
        sample_weight: SampleWeight = None,
        offset: Offset = None,
        verbose: Verbose = "auto",
    ) -> list[History]:
        """Train all networks for some epochs more, in one compiled call: ``fb.fit_many``, which says what the
        arguments are.

        bootstrap : each network trains on as many rows as there are, drawn with replacement by its own seed
        and place (Breiman 1996); else on all rows, and seeds alone make networks differ, which most often
        does better (Lakshminarayanan et al. 2017).

        Returns a list of History, one for each network. One that diverges has the error in its
        ``history.error`` and keeps the weights before, and a RuntimeWarning says so: leave it out of the
        ensemble, or the mean is spoilt. Raises as fit_many does.
        """
        if flag("bootstrap", bootstrap):
            if rows is not None:
                raise ValueError("bootstrap: got it and rows, takes one of them")
            given: Any = y
            rows = self._drawn(given.shape[0] if hasattr(given, "shape") else len(given))
        histories = fit_many(
            self.trainers, X, y, rows=rows, epochs=epochs, seconds=seconds, validation_data=validation_data,
            validation_rows=validation_rows, metrics=metrics, callbacks=callbacks,
            early_stopping=early_stopping, shuffle=shuffle, sample_weight=sample_weight, offset=offset,
            verbose=verbose,
        )  # fmt: skip
        for i, history in enumerate(histories):
            if history.error is not None:
                said = f"fit: the network at place {i} diverged ({history.error}); predict still counts it"
                warnings.warn(said, RuntimeWarning, stacklevel=2)
        return histories

    def _drawn(self, count):
        """For each network ``count`` rows of so many."""
        seeds = [(trainer.seed, i) for i, trainer in enumerate(self.trainers)]
        return [np.random.default_rng(seed).integers(0, count, count) for seed in seeds]

    # --- using

    @overload
    def predict(
        self, X: Features, *, offset: Offset = None, return_std: Literal[False] = False
    ) -> Floats: ...
    @overload
    def predict(
        self, X: Features, *, offset: Offset = None, return_std: Literal[True]
    ) -> tuple[Floats, Floats]: ...
    def predict(self, X: Features, *, offset: Offset = None, return_std: bool = False) -> Any:
        """(N, outputs): the mean of what the networks predict for X (N, inputs), of probabilities where they
        predict these; for gaussian_nll means and variances of the mixture of their distributions: the mean
        of the variances and the variance of the means together (the law of total variance).

        X, offset : as in Trainer.predict; X is checked and prepared once, the answer is NumPy's. return_std :
        for numbers, a pair: means and standard deviations (N, outputs): for gaussian_nll (N, targets), those
        of the mixture, for other losses between the networks, as np.std has them, of which two or more are
        needed. Raises as Trainer.predict does, and ValueError for return_std with a loss of classes: see
        ``disagreement``.
        """
        if flag("return_std", return_std):
            if self._link in _OF_CLASSES:
                raise ValueError(
                    f"return_std: got True with {self._loss.name}, a loss of classes, takes False: see "
                    "disagreement"
                )
            if self._link != "gaussian":
                self._check_several("return_std: got True")
        return mixture(self._each("predict", X, offset), self._link, return_std)

    def disagreement(self, X: Features, *, offset: Offset = None) -> Doubles:
        """How far the networks' probabilities are apart, float64 in nats: 0 where all say the same, at most
        the logarithm of the number of networks, or of classes.

        (N,), of yes-or-no outputs, where there are several, (N, outputs). It is the entropy of the mean
        probabilities less the mean of their entropies: the mutual information between answer and network
        (Houlsby et al. 2011), which is the mean KL divergence of the networks from their mean, by which
        Lakshminarayanan et al. (2017) measure disagreement. What the networks agree to be uncertain does not
        count. X, offset : as in predict. Raises ValueError for losses without probabilities and for one
        network.
        """
        if self._link not in _OF_CLASSES:
            raise ValueError(
                f"disagreement: got the loss {self._loss.name}, takes one with probabilities; of numbers see "
                "predict(return_std=True)"
            )
        self._check_several("disagreement: got one")
        return divergence(self._each("predict", X, offset), self._link)

    def evaluate(
        self,
        X: Features,
        y: Targets,
        sample_weight: SampleWeight = None,
        metrics: MetricsLike | None = None,
        *,
        offset: Offset = None,
    ) -> dict[str, float]:
        """{"loss": ..., "accuracy": ..., metrics}, as Trainer.evaluate has them, of the mean prediction: the
        loss of what ``predict`` gives. Arguments and errors are Trainer.evaluate's.
        """
        first = self.trainers[0]
        given: Any = samples(first, X, y, sample_weight, offset)
        functions = measures.table(metrics, getattr(self._loss, "quantiles", None))
        code = given.code
        # a network that gives back its inputs, the mean's outputs, has the loss
        width, dtype = first.net.sizes[-1], first.net.dtype
        loss: Any = self._loss
        if self._link == "ordered":
            loss = replace(loss, ordered=False)
            given = given._replace(code=loss.code(width))
        kind: Any = {"dtype": str(dtype)}
        machine: Any = {"device": first.device, "threads": first.threads}
        net = MLP([width, width], initializer=[(np.eye(width), np.zeros(width))], **kind)
        judge: Any = Trainer(net, loss, **machine)
        z = self._outputs(given, offset).astype(dtype)
        result = judge.evaluate(given._replace(X=z, offset=None), None)
        if functions:
            own = in_own_units(first, given.y)
            prediction = self.predict(given, offset=offset)
            result |= checks.measure(functions, code, own, prediction, given.weight)
        return result

    def _outputs(self, given, offset):
        """(N, outputs) float64 whose link is the mean prediction, in the units that the networks learn."""
        if self._link in ("softmax", "sigmoid", "exp"):
            yes, no = -np.inf, -np.inf
            for z in self._each("forward", given, offset):
                if self._link == "softmax":
                    z = z - np.logaddexp.reduce(z, axis=1, keepdims=True)
                if self._link == "sigmoid":
                    no = np.logaddexp(no, -np.logaddexp(0.0, z))
                    z = -np.logaddexp(0.0, -z)
                yes = np.logaddexp(yes, z)
            return yes - no if self._link == "sigmoid" else yes - np.log(len(self.trainers))
        found = self.predict(given, offset=offset).astype(np.float64)
        scale = own_scale(self.trainers[0], found.shape[1], True)
        found = found if scale is None else (found - scale[0]) / scale[1]
        if self._link == "gaussian":
            half = found.shape[1] // 2
            found[:, half:] = np.log(found[:, half:])
        return found

    def _each(self, method, X, offset):
        return each(self.trainers, method, X, offset)

    @property
    def _loss(self):
        return self.trainers[0].loss

    @property
    def _link(self):
        return LINKS[self._loss.link_code(self.trainers[0].net.sizes[-1])]

    def _check_several(self, got):
        if len(self.trainers) < 2:
            raise ValueError(f"{got} with one network, takes two or more, which can differ")

    # --- files

    def save(self, path: FilePath) -> None:
        """Write all networks, as Trainer.save does one, to one .safetensors file: whole or not at all.

        ``Ensemble.load`` reads it, and training goes on bit for bit. Raises OSError and ValueError as
        Trainer.save does.

        >>> ensemble = fb.Ensemble([trainer])
        >>> ensemble.save("ensemble.safetensors")
        >>> again = fb.Ensemble.load("ensemble.safetensors")
        >>> bool((again.predict(X) == ensemble.predict(X)).all())
        True
        """
        with self._still():
            checkpoint.save_members(self.trainers, path)

    @classmethod
    def load(cls, path: FilePath, *, device: Device = "auto", threads: int | None = None) -> Ensemble:
        """The Ensemble that ``save`` wrote, or an estimator of fastbp.sklearn with several networks; training
        goes on exactly where it stopped. Raises as ``fb.load`` does, and ValueError for a file of one
        network, which fb.load reads.
        """
        trainers, _ = checkpoint.load_members(Trainer, path, device, threads, True)
        with _named(path):
            return cls(trainers)

    def to_onnx(self, path: FilePath) -> None:
        """Write all networks and their mean as one ONNX graph: X (N, inputs) to Y (N, outputs), what
        ``predict`` gives. Types, preparation and errors are those of Trainer.to_onnx.
        """
        onnxfile.write(self._described(), path)

    def to_c(self, path: FilePath, name: str = "predict") -> None:
        """Write all networks and their mean as one C99 file: ``void name(const float *x, float *y)``, y what
        ``predict`` gives for the row x. Types, names and errors are those of Trainer.to_c.
        """
        text = cfile.source(self._described(), name)
        with written(path, "w", encoding="utf-8") as file:
            file.write(text)

    def _described(self):
        with self._still():
            return [described(trainer) for trainer in self.trainers]

    def _still(self):
        """While nobody trains them."""
        stack = ExitStack()
        for trainer in self.trainers:
            stack.enter_context(trainer.turns.state)
        return stack

    # --- shown

    def _sizes(self):
        """[("64-32-10", how many), ...]"""
        return Counter("-".join(map(str, trainer.net.sizes)) for trainer in self.trainers).items()

    def __len__(self) -> int:
        return len(self.trainers)

    def __repr__(self) -> str:
        steps = sum(trainer.steps for trainer in self.trainers)
        sizes = ", ".join(sizes if count == 1 else f"{count} of {sizes}" for sizes, count in self._sizes())
        return f"Ensemble({sizes})" + (f" after {steps:,} steps" if steps else "")

    def _repr_html_(self) -> str:
        rows: list[tuple[object, ...]] = [
            ("Ensemble", "network", "optimizer", "batch size", "epochs", "steps")
        ]
        for i, trainer in enumerate(self.trainers):
            sizes = "-".join(map(str, trainer.net.sizes))
            trained = trainer.batch_size, f"{trainer.epochs:,}", f"{trainer.steps:,}"
            rows.append((i, sizes, trainer.optimizer, *trained))
        return html_table(rows, left=3, caption=f"{len(self.trainers)} networks, loss {self._loss}")


def load(path: FilePath, device: Device, threads: int | None) -> Trainer | Ensemble:
    """What a file holds, of one network or of several."""
    trainers, config = checkpoint.load_members(Trainer, path, device, threads, None)
    with _named(path):
        return Ensemble(trainers) if "members" in config else trainers[0]


@contextmanager
def _named(path):
    """Errors of what it holds name the file."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{os.fsdecode(path)}: {error}") from None


def _shared(trainer):
    """{name: value} of what all networks of an ensemble have in common."""
    net = trainer.net
    return {
        "inputs": net.sizes[0],
        "outputs": net.sizes[-1],
        "embedded columns and categories": [(column, count) for column, count, _ in net.embedded],
        "the dtype": str(net.dtype),
        "the loss": trainer.loss,
        "the device": trainer.device,
        "columns": trainer.columns,
        "a preparation": trainer.preparation,
    }


def _same(one, other):
    if hasattr(one, "config") and hasattr(other, "config"):  # of losses or preparations
        alike = type(one) is type(other) and repr(one.config()) == repr(other.config())
        return one is other or (alike and repr(_numbers(one)) == repr(_numbers(other)))
    return bool(one == other)


def _numbers(thing):
    """The numbers of a preparation; a loss has none beside its configuration."""
    arrays = thing.tensors() if hasattr(thing, "tensors") else {}
    return {name: array.tolist() for name, array in arrays.items()}


def _said(value):
    return type(value).__name__ if hasattr(value, "tensors") else repr(value)


def each(
    trainers: Sequence[Trainer], method: Literal["predict", "forward"], X: Any, offset: Offset = None
) -> Iterator[Array]:
    """What networks with the same inputs give, one after the other: X is checked, prepared and, if at all,
    copied once."""
    rows: Any = Samples(features(trainers[0], X, finite=False), 0, np.empty(0))
    for trainer in trainers:
        yield plain(getattr(trainer, method)(rows, offset=offset))


def mixture(outs: Iterable[Array], link: str | None, spread: bool) -> Any:
    """The mean of predictions (N, outputs) of networks with a ``link``, as export.LINKS names it; with
    ``spread`` a pair: the mean and the standard deviation. See Ensemble.predict."""
    count, mean, squares, total, dtype = 0, 0.0, 0.0, 0.0, None
    for out in outs:
        count, dtype, found = count + 1, out.dtype, out.astype(np.float64)
        total = total + found
        if spread or link == "gaussian":  # Welford (1962)
            apart = found - mean
            mean = mean + apart / count
            squares = squares + apart * (found - mean)
    parts: Any = (total / count,)
    if link == "gaussian":
        parts = np.hsplit(parts[0], 2)
        parts[1] = parts[1] + np.hsplit(squares / count, 2)[0]
        parts = (parts[0], np.sqrt(parts[1])) if spread else (np.hstack(parts),)
    elif spread:
        parts = parts[0], np.sqrt(squares / count)
    parts = tuple(part.astype(dtype) for part in parts)
    return parts if spread else parts[0]


def divergence(outs: Iterable[Array], link: str | None) -> Doubles:
    """The mean KL divergence of probabilities (N, outputs) from their mean. See Ensemble.disagreement."""
    count, mean, inner = 0, 0.0, 0.0
    for out in outs:
        p = out.astype(np.float64)
        count, mean, inner = count + 1, mean + p, inner + _entropy(p, link)
    found = np.maximum(_entropy(mean / count, link) - inner / count, 0.0)
    return found[:, 0] if found.ndim == 2 and found.shape[1] == 1 else found


def _entropy(p: Any, link: str | None) -> Any:
    """Of distributions over the outputs (N,), or of each output's yes and no (N, outputs)."""
    return -_plogp(p).sum(axis=1) if link == "softmax" else -_plogp(p) - _plogp(1.0 - p)


def _plogp(p: Any) -> Any:
    return np.where(p > 0, p * np.log(np.where(p > 0, p, 1.0)), 0.0)
