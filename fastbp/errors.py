"""What errors have in common: the argument, what came, what it takes."""

import difflib


def unknown(what, got, known):
    """A ValueError for a name that is not among the known ones, suggesting the nearest.

    what: the argument's name; got: what came, of any type; known: the names it takes.

    >>> raise unknown("activation", "rleu", ["relu", "tanh"])
    ValueError: activation: got 'rleu'; did you mean 'relu'? Known: relu, tanh
    """
    known = [str(name) for name in known]
    folded = {name.casefold(): name for name in reversed(known)}
    near = difflib.get_close_matches(str(got).casefold(), folded, n=1)
    hint = f"; did you mean {folded[near[0]]!r}?" if near else "."
    return ValueError(f"{what}: got {got!r}{hint} Known: {', '.join(known) or '(none)'}")
