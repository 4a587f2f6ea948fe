"""What minimisers call: the mean loss of all rows and its gradient, from the compiled program."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..engine.parallel import lone_threads
from ..engine.sessions import bind, open_session
from ..kernels import codes
from ..network.layout import arena

if TYPE_CHECKING:
    from ..engine.anytrainer import AnyTrainer
    from ..engine.samples import Samples
    from ..types import Doubles


class Objective:
    """loss, gradient = objective(): at the network's parameters; gradient (P,) float64, laid out as they are.

    What Trainer.gradients computes, with the buffers opened and the samples bound once. share: of samples
    whose weight is not 0; hits: right answers of the last call.
    """

    def __init__(self, trainer: AnyTrainer, samples: Samples) -> None:
        self.gradient = arena(trainer.net.params.size, trainer.net.dtype)
        rows, threads = samples.rows, lone_threads(trainer, samples.rows)
        self.session = open_session(
            trainer, rows, samples.code, self.gradient, threads=threads, behind=samples.behind
        )
        self.share, self.hits = bind(trainer, self.session, samples), 0

    def __call__(self) -> tuple[float, Doubles]:
        [(_, loss, mass, self.hits)] = self.session.windows(codes.GRADIENTS, 1)
        return float(loss / mass) if mass else 0.0, self.gradient.astype(np.float64)
