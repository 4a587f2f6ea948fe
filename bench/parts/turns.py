"""Things timed in turns: a core's clock changes within a second, so the fastest of many short runs counts."""

import time

SECONDS = 0.01  # that a run should last


def best(works, rounds):
    """{name: seconds of one work(), the least of ``rounds`` runs}; works: {name: function}."""
    repeats, found = {}, dict.fromkeys(works, float("inf"))
    for name, work in works.items():
        work()  # what is made once
        repeats[name] = max(1, int(SECONDS / _run(work, 1)))
    for _ in range(rounds):
        for name, work in works.items():
            found[name] = min(found[name], _run(work, repeats[name]) / repeats[name])
    return found


def _run(work, times):
    start = time.perf_counter()
    for _ in range(times):
        work()
    return time.perf_counter() - start
