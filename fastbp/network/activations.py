"""Names of activations -> codes: the built-in ones, and the user's own (functions.py)."""

from __future__ import annotations

from typing import Any

from ..errors import named
from ..kernels import codes

NAMES = codes.ACTIVATIONS | codes.LEARNED
USERS: dict[str, int] = {}  # full name, ending in a digest -> code
LAST: dict[str, str] = {}  # short name -> the full name that was made last


def check(name: Any) -> str:
    """The name that a network keeps. Raises ValueError with the nearest known name."""
    if name in NAMES or name in USERS:
        return name
    if isinstance(name, str) and "#" in name:
        raise ValueError(
            f"activation: got {name!r}, an activation of your own that is not here (or is another one now): "
            "takes fb.activation of the same function first"
        )
    meant = named("activation", name, [*NAMES, *LAST])
    return LAST.get(meant, meant)


def code(name: str) -> int:
    """The code of a name that ``check`` returned."""
    return NAMES[name] if name in NAMES else USERS[name]
