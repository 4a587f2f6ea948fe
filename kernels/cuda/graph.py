"""CUDA graphs: a run of launches recorded once and replayed as one."""

import warnings

from .device import SIMULATED


def record(launch):
    """A function of a stream that replays what launch(stream) launches; None where there are no graphs.

    launch must have been called before with an ordinary stream, since compiling and loading are no
    part of a graph. What it launches reads its numbers from memory, so a replay needs no update;
    the caller keeps the arrays alive. In the simulator, and where recording fails (which warns), the
    caller launches kernel by kernel.
    """
    if SIMULATED:
        return None
    try:
        return _record(launch)
    except Exception as error:  # of the driver, cuda.core or numba: each has its own
        warnings.warn(f"CUDA graphs: {error}; kernels are launched one by one", RuntimeWarning, stacklevel=2)
        return None


def _record(launch):
    from cuda.core import Device, Stream

    device = Device()
    device.set_current()
    builder = device.create_graph_builder()
    builder.begin_building()
    launch(builder.stream)
    graph = builder.end_building().complete()

    def replay(stream):
        graph.launch(Stream.from_handle(int(stream.handle)))

    return replay
