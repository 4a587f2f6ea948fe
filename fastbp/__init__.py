"""fastbp: train multi-layer perceptrons at the speed of the machine.

>>> net = fb.MLP([4, 16, 4], seed=0)
>>> trainer = fb.Trainer(net, loss="cross_entropy", optimizer="adam", seed=0)
>>> history = trainer.fit(X, y, epochs=10)
>>> trainer.predict(X).shape
(4, 4)
"""

from importlib import import_module as _import_module
from pathlib import Path as _Path
from typing import TYPE_CHECKING

# In a plain checkout kernels/ stands beside fastbp/; installed, it is fastbp/kernels. A checkout has a link
# of that name too, by which editors and type checkers find it; a program does not depend on links.
_here = _Path(__file__).resolve().parent
_installed = (_here / "kernels").is_dir() and not (_here / "kernels").is_symlink()
if not _installed and (_here.parent / "kernels" / "codes.py").is_file():
    __path__.insert(0, str(_here.parent))

from . import data, initializers, losses, schedules  # noqa: E402
from .callbacks import (  # noqa: E402
    Callback,
    CSVLogger,
    EarlyStopping,
    LambdaCallback,
    ModelCheckpoint,
    ReduceLROnPlateau,
    TensorBoard,
    TerminateOnNaN,
)
from .engine.history import History  # noqa: E402
from .models.self_training import self_training  # noqa: E402
from .network.mlp import MLP  # noqa: E402
from .optimizers import (  # noqa: E402
    LBFGS,
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    Lion,
    NAdam,
    RAdam,
    RMSprop,
)
from .training.trainer import Trainer, load  # noqa: E402

# what many programs never need: a fifth of the time that importing takes
_LATER = {
    "Autoencoder": "models.autoencoder",
    "ELM": "models.elm",
    "Ensemble": "training.ensemble",
    "activation": "custom.functions",
    "fit_many": "training.many",
    "from_torch": "export",
    "loss": "custom.functions",
    "math": "math",
}


if TYPE_CHECKING:  # for editors and type checkers the same names, at once, and no others
    from . import math
    from .custom.functions import activation, loss
    from .export import from_torch
    from .models.autoencoder import Autoencoder
    from .models.elm import ELM
    from .training.ensemble import Ensemble
    from .training.many import fit_many
else:

    def __getattr__(name):
        if name not in _LATER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = _import_module(f".{_LATER[name]}", __name__)
        globals()[name] = found = module if name == _LATER[name] else getattr(module, name)
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})


__version__ = "0.1.0"
__all__ = [
    "ELM",
    "LBFGS",
    "MLP",
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Autoencoder",
    "CSVLogger",
    "Callback",
    "EarlyStopping",
    "Ensemble",
    "History",
    "LambdaCallback",
    "Lion",
    "ModelCheckpoint",
    "NAdam",
    "RAdam",
    "RMSprop",
    "ReduceLROnPlateau",
    "TensorBoard",
    "TerminateOnNaN",
    "Trainer",
    "activation",
    "data",
    "fit_many",
    "from_torch",
    "initializers",
    "load",
    "loss",
    "losses",
    "math",
    "schedules",
    "self_training",
]
