"""What all tests share: four threads even on two cores, and fresh random numbers with a seed to repeat."""

import os

# Before numba is imported: bits are compared for 1, 2 and 4 threads, whatever the machine has.
os.environ.setdefault("NUMBA_NUM_THREADS", str(max(4, os.cpu_count() or 1)))

import numpy as np
import pytest


@pytest.fixture
def rng():
    """A generator with a fresh seed, printed so that a failure can be repeated."""
    seed = int.from_bytes(os.urandom(4), "little")
    print(f"rng seed: {seed}")
    return np.random.default_rng(seed)
