"""What minimisers call: the mean loss of all rows and its gradient, from the compiled program."""

import numpy as np

from ..engine.parallel import lone_threads
from ..kernels import codes
from ..network.layout import arena


class Objective:
    """loss, gradient = objective(): at the network's parameters; gradient (P,) float64, laid out as they are.

    What Trainer.gradients computes, with the buffers opened and the data bound once. X, code, y, weight: as
    the trainer's ``_checked`` and data.weights give them. share: of samples whose weight is not 0; hits:
    right answers of the last call.
    """

    def __init__(self, trainer, X, code, y, weight):
        self.gradient = arena(trainer.net.params.size, trainer.net.dtype)
        threads = lone_threads(trainer, len(X))
        self.session = trainer._open(len(X), code, self.gradient, threads=threads)
        self.share, self.hits = trainer._bind(self.session, X, code, y, weight), 0

    def __call__(self):
        [(_, loss, mass, self.hits)] = self.session.windows(codes.GRADIENTS, 1)
        return float(loss / mass), self.gradient.astype(np.float64)
