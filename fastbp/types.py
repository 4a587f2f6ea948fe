"""Types that signatures share, for type checkers and editors, and for annotations of your own.

No program needs them to run: fastbp imports this module under TYPE_CHECKING only. LossLike, OptimizerLike
and ScheduleLike stand beside the class that they name, in losses/base.py, optimizers.py, schedules/base.py.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

# --- data


class SparseMatrix(Protocol):
    """A SciPy matrix or array of any sparse format."""

    def tocsr(self, *args: Any, **options: Any) -> Any: ...


class OnGPU(Protocol):
    """An array on a GPU: CuPy's, torch's, numba's."""

    @property
    def __cuda_array_interface__(self) -> Any: ...


class Exchangeable(Protocol):
    """An array of any library that has DLPack's exchange."""

    def __dlpack__(self, *args: Any, **options: Any) -> Any: ...


Array: TypeAlias = NDArray[Any]  # of any dtype
Floats: TypeAlias = NDArray[np.floating[Any]]  # float32 or float64, as the network
Doubles: TypeAlias = NDArray[np.float64]
PerUpdate: TypeAlias = float | Doubles  # one number for all updates, or an array of one for each
Ints: TypeAlias = NDArray[np.int64]
Shape: TypeAlias = tuple[int, ...]

# X: arrays, lists of rows, frames (pandas, polars, Arrow), tensors, sparse matrices, fb.data.shards(...)
Features: TypeAlias = ArrayLike | SparseMatrix | OnGPU | Exchangeable
Targets: TypeAlias = ArrayLike | SparseMatrix | OnGPU | Exchangeable  # y
SampleWeight: TypeAlias = ArrayLike | OnGPU | Exchangeable | None
Offset: TypeAlias = ArrayLike | OnGPU | Exchangeable | None
Batch: TypeAlias = (
    tuple[Features, Targets]
    | tuple[Features, Targets, SampleWeight]
    | tuple[Features, Targets, SampleWeight, Offset]
)
Batches: TypeAlias = Iterable[Batch] | Callable[[], Iterable[Batch]]  # X that is made batch by batch
FilePath: TypeAlias = str | os.PathLike[str]

# --- the network

ActivationName: TypeAlias = Literal[
    "identity", "relu", "leaky_relu", "prelu", "sigmoid", "tanh", "elu", "celu", "selu", "gelu", "gelu_tanh",
    "silu", "mish", "softplus", "softsign", "hardtanh", "hardswish", "sin",
]  # fmt: skip
Activation: TypeAlias = ActivationName | str  # str: fb.activation's
Norm: TypeAlias = Literal["layer", "batch"]
Dtype: TypeAlias = Literal["float32", "float64"] | type[np.floating[Any]] | type[float] | np.dtype[Any]
Device: TypeAlias = Literal["auto", "cpu", "cuda"]
Seed: TypeAlias = int | None

InitializerName: TypeAlias = Literal[
    "he_uniform", "he_normal", "xavier_uniform", "xavier_normal", "lecun_uniform", "lecun_normal",
    "orthogonal", "uniform", "normal", "zeros",
]  # fmt: skip
InitializerFunction: TypeAlias = Callable[[np.random.Generator, tuple[int, int]], ArrayLike]
InitializerLike: TypeAlias = InitializerName | str | InitializerFunction | Sequence[Sequence[ArrayLike]]

# --- training

LossName: TypeAlias = Literal[
    "cross_entropy", "bce_with_logits", "mse", "mae", "huber", "log_cosh", "quantile", "poisson_nll",
    "gamma_nll", "gaussian_nll", "focal", "hinge", "cosine",
]  # fmt: skip
Link: TypeAlias = Literal["identity", "sigmoid", "exp", "softmax"]

OptimizerName: TypeAlias = Literal[
    "sgd", "adam", "adamw", "nadam", "radam", "adamax", "rmsprop", "adagrad", "adadelta", "lion", "lbfgs"
]

ScheduleName: TypeAlias = Literal[
    "constant", "step", "multistep", "exponential", "cosine", "polynomial", "onecycle", "inversescaling",
    "plateau", "adaptive",
]  # fmt: skip
ScheduleFunction: TypeAlias = Callable[[int], float]  # of the number of the update, from 0
By: TypeAlias = Literal["step", "epoch", "sample"]  # what a schedule counts

MetricName: TypeAlias = Literal[
    "accuracy", "top_k", "auc", "f1", "precision", "recall", "r2", "mae", "mse", "rmse", "log_loss", "pinball"
]
MetricFunction: TypeAlias = Callable[..., Any]  # (y_true, prediction, sample_weight=None) -> a number
MetricLike: TypeAlias = MetricName | str | MetricFunction
MetricsLike: TypeAlias = MetricLike | Iterable[MetricLike]  # one metric or several

Logs: TypeAlias = dict[str, float]  # what an epoch measured
Verbose: TypeAlias = Literal["auto"] | bool | int
