"""What losses share; the losses themselves are in __init__.py."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np

from ..data import checks
from ..errors import flag
from ..kernels import codes
from ..printing import Called

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..types import Array, Doubles, Floats, LossName


class Loss(Called):
    """What losses share: a name, codes for the program, the targets they take, their JSON form.

    A batch's loss is the mean of its samples' losses by their weights; a sample's is the mean over its
    outputs, except where the docstring says that they are one answer.
    """

    name: str  # of every loss, as Trainer takes it
    ignore_nan: bool = False  # see ByOutput

    def config(self) -> dict[str, Any]:
        """{"name": ..., hyperparameters}: what ``loss(**config)`` takes back."""
        config = {"name": self.name, **asdict(cast(Any, self))}
        if not self.ignore_nan:
            config.pop("ignore_nan", None)
        return config

    def code(self, outputs: int) -> int:
        """The program's code, as far as it does not depend on the targets."""
        return codes.LOSSES[self.name]

    def link_code(self, outputs: int) -> int:
        """The code of a loss with the same link, for predictions."""
        return self.code(outputs)

    def check(self, outputs: int) -> None:
        """Raises ValueError if no network with so many outputs can have this loss."""
        if self.ignore_nan and self.code(outputs) in codes.TOGETHER:
            raise ValueError(
                f"{type(self).__name__} ignore_nan: got True for {outputs} classes, takes False: labels are "
                "never NaN; it is for one output or with multi_label=True"
            )

    def numbers(self, outputs: int) -> Doubles:
        """float64 (LOSS_SCALARS + outputs,): hyperparameters, then one number for each output."""
        table = np.zeros(codes.LOSS_SCALARS + outputs)
        scalars, vector = self._numbers(outputs)
        table[: len(scalars)], table[codes.LOSS_SCALARS :] = scalars, vector
        return table

    def _numbers(self, outputs: int) -> tuple[tuple[float, ...], Any]:
        return (), 0.0

    def width(self, outputs: int) -> int:
        """Numbers that a target has, where they are numbers, for a network with so many outputs."""
        return outputs

    def targets(self, array: Array, outputs: int) -> tuple[int, Array]:
        """(code, (N, targets) array) for targets with finite numbers; see fastbp.checks.targets."""
        array = checks.rows_of_targets(array, self.name, self.width(outputs))
        self._check_targets(array)
        return self.code(outputs), array

    def _check_targets(self, array: Array) -> None:
        pass

    def weights(self, weight: Floats | None, y: Array, code: int) -> Floats | None:
        """The samples' weights: sample_weight, or None, with what the loss itself makes of its targets."""
        return weight

    def _vector(self, name: str, good: Callable[[Any], Any], takes: str) -> None:
        """The field as a tuple of finite floats, or None."""
        value = getattr(self, name)
        if value is None:
            return
        try:
            array = np.asarray(value, np.float64)
            fits = array.ndim == 1 and array.size > 0 and np.isfinite(array).all() and good(array).all()
        except (TypeError, ValueError):
            fits = False
        if not fits:
            raise ValueError(f"{type(self).__name__} {name}: got {value!r}, takes {takes}")
        setattr(self, name, tuple(array.tolist()))

    def _check_length(self, name: str, outputs: int) -> None:
        value = getattr(self, name)
        if value is not None and len(value) != outputs:
            raise ValueError(
                f"{type(self).__name__} {name}: got {len(value)} numbers, takes {outputs}, one for each "
                "output of the network"
            )


@dataclass
class ByOutput(Loss):
    """A loss that treats each output alone: targets, and weights, may be known for some outputs of a sample.

    ignore_nan: whether targets that are NaN count for nothing, as if their weight were 0.
    """

    ignore_nan: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        self.ignore_nan = flag(f"{type(self).__name__} ignore_nan", self.ignore_nan)


LossLike: TypeAlias = "LossName | str | Loss"
