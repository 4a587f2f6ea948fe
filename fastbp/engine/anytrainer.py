"""AnyTrainer: what a Trainer is to the code below it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ..losses.base import Loss
    from ..network.gradients import Gradients
    from ..network.mlp import MLP
    from ..optimizers import Optimizer
    from ..preparation import Preparation
    from ..schedules.base import Schedule
    from ..types import Batches, Features, FilePath, Floats, MetricsLike, Offset, SampleWeight, Targets
    from .history import History
    from .turns import Turns


class AnyTrainer(Protocol):
    """A Trainer, for the annotations of what it is made of and of callbacks: they cannot name the class
    itself, which imports them. Every public name of a Trainer is here; its docstrings say what they mean.
    """

    net: MLP
    loss: Loss
    optimizer: Optimizer
    batch_size: int
    device: str
    threads: int | None
    seed: int
    schedule: Schedule | None
    clip_norm: float | None
    clip_layer_norm: float | None
    clip_value: float | None
    l1: float
    decay_bias: bool
    lr_factors: Sequence[float] | None
    max_norm: float | None
    accumulate: int
    ema: float | None
    slots: Floats
    schedule_state: dict[str, Any]
    lr_scale: float
    gradient_hook: Callable[[Gradients], object] | None
    steps: int
    epochs: int
    history: History
    columns: list[str] | None
    preparation: Preparation | None
    first_step: int
    planned_steps: int | None
    stop_training: bool
    turns: Turns

    @property
    def num_threads(self) -> int: ...
    @property
    def compile_seconds(self) -> float: ...

    def fit(self, X: Features | Batches, *args: Any, **options: Any) -> History: ...
    def train_on_batch(
        self, X: Features, y: Targets, sample_weight: SampleWeight = None, *, offset: Offset = None
    ) -> float: ...
    def partial_fit(
        self, X: Features, y: Targets, sample_weight: SampleWeight = None, *, offset: Offset = None
    ) -> float: ...
    def evaluate(
        self,
        X: Features,
        y: Targets,
        sample_weight: SampleWeight = None,
        metrics: MetricsLike | None = None,
        *,
        offset: Offset = None,
        ema: bool | None = None,
    ) -> dict[str, float]: ...
    def averaged_net(self) -> MLP: ...
    def predict(
        self, X: Features, *, offset: Offset = None, samples: int | None = None, ema: bool | None = None
    ) -> Floats: ...
    def forward(self, X: Features, *, offset: Offset = None, ema: bool | None = None) -> Floats: ...
    def activations(self, X: Features, layer: int = -1) -> Floats: ...
    def gradients(
        self, X: Features, y: Targets, sample_weight: SampleWeight = None, *, offset: Offset = None
    ) -> tuple[float, Gradients]: ...
    def gradients_from(
        self, X: Features, output_gradient: Targets, *, link: bool = True, offset: Offset = None
    ) -> Gradients: ...
    def input_gradients(
        self,
        X: Features,
        output: int | Targets | None = None,
        *,
        link: bool = True,
        offset: Offset = None,
        ema: bool | None = None,
    ) -> Floats: ...
    def lr_find(self, X: Features, y: Targets, **options: Any) -> Any: ...
    def explain(self, seconds: float = 0.5) -> Any: ...
    def diagnose(
        self,
        X: Features,
        y: Targets,
        sample_weight: SampleWeight = None,
        rows: int = 1024,
        *,
        offset: Offset = None,
    ) -> Any: ...
    def save(self, path: FilePath) -> None: ...
    def to_torch(self, link: bool = False) -> Any: ...
    def to_onnx(self, path: FilePath, link: bool = True) -> None: ...
    def to_c(self, path: FilePath, name: str = "predict", link: bool = True) -> None: ...
