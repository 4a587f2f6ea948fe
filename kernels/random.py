"""Counter-based random numbers, the same wherever and whenever they are asked for, and shuffled orders."""

import numpy as np
from numba import uint64

from .jit import jit


@jit
def mix(x):
    """A number's 64 bits well mixed: SplitMix64's finalizer (Steele, Lea, Flood, OOPSLA 2014)."""
    x = (x ^ (x >> uint64(30))) * uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> uint64(27))) * uint64(0x94D049BB133111EB)
    return x ^ (x >> uint64(31))


@jit
def draw(seed, stream, counter):
    """Random 64 bits number ``counter`` of a stream: the same wherever and whenever it is asked for."""
    golden = uint64(0x9E3779B97F4A7C15)
    key = mix(uint64(seed) * golden + mix(uint64(stream) + golden))
    return mix(key + (uint64(counter) + uint64(1)) * golden)


@jit
def shuffle(order, seed, stream):
    """order (N,) = a uniform permutation of range(N): Fisher and Yates, Knuth vol. 2, 3.4.2 P."""
    for i in range(order.size):
        order[i] = np.int32(i)
    for i in range(order.size - 1, 0, -1):
        bits = draw(seed, stream, i) >> uint64(32)
        j = np.int64((bits * uint64(i + 1)) >> uint64(32))
        kept = order[i]
        order[i] = order[j]
        order[j] = kept
