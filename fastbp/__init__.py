"""fastbp: train multi-layer perceptrons at the speed of the machine."""

from pathlib import Path as _Path

# In a plain checkout kernels/ stands beside fastbp/; installed, it is fastbp/kernels.
_here = _Path(__file__).resolve().parent
if not (_here / "kernels").is_dir() and (_here.parent / "kernels" / "codes.py").is_file():
    __path__.append(str(_here.parent))

from .checkpoint import load  # noqa: E402
from .history import History  # noqa: E402
from .mlp import MLP  # noqa: E402
from .optimizers import SGD, Adam, AdamW  # noqa: E402
from .trainer import Trainer  # noqa: E402

__version__ = "0.1.0"
__all__ = ["MLP", "SGD", "Adam", "AdamW", "History", "Trainer", "load"]
