"""What all tests share: four threads even on two cores, and fresh random numbers with a seed to repeat."""

import importlib.util
import os
import signal
import sys
import threading

# Before numba is imported: bits are compared for 1, 2 and 4 threads, whatever the machine has.
os.environ.setdefault("NUMBA_NUM_THREADS", str(max(4, os.cpu_count() or 1)))

import numpy as np
import pytest

# Signals that are ignored where this runs (the background of a shell, nohup) are heard in the tests.
if threading.current_thread() is threading.main_thread():
    for _name, _handler in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL)):
        if hasattr(signal, _name) and signal.getsignal(getattr(signal, _name)) is signal.SIG_IGN:
            signal.signal(getattr(signal, _name), _handler)


if importlib.util.find_spec("hypothesis"):  # --hypothesis-profile=long: as many as a battery takes
    from hypothesis import HealthCheck, settings

    _slow = {"deadline": None, "suppress_health_check": list(HealthCheck), "print_blob": True}
    settings.register_profile("short", max_examples=25, **_slow)
    settings.register_profile("long", max_examples=500, **_slow)
    settings.load_profile("short")


@pytest.fixture
def rng():
    """A generator with a fresh seed, printed so that a failure can be repeated."""
    seed = int.from_bytes(os.urandom(4), "little")
    print(f"rng seed: {seed}")
    return np.random.default_rng(seed)


@pytest.fixture(autouse=True)
def no_ctrl_c_before():
    """Two within a second are one thing, but not those of two tests."""
    if fitting := sys.modules.get("fastbp.training.fitting"):
        fitting._last_interrupt[0] = -np.inf


SIMULATED = bool(int(os.environ.get("NUMBA_ENABLE_CUDASIM") or 0))


def pytest_configure(config):
    """What numba-cuda thinks of small grids is not the user's concern: program.quiet."""
    if SIMULATED:
        config.addinivalue_line("filterwarnings", "error:Grid size")


def pytest_generate_tests(metafunc):
    """Who takes ``device`` runs on each that is here: the simulator's alone, in a run of its own."""
    if "device" in metafunc.fixturenames:
        from fastbp.engine import devices

        if SIMULATED:
            import simulator  # noqa: F401
        here = ["cuda"] if SIMULATED else ["cpu"] + (["cuda"] if devices.no_gpu() is None else [])
        metafunc.parametrize("device", here)
