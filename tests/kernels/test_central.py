"""The compiled program's gradient of a training step against central differences of the reference's loss.

Every activation x every loss x every norm, with dropout and without: beside a skip, sample weights and an
embedding, in float64. A difference is taken along random directions of all parameters at once.
"""

import draw
import numpy as np
import pytest
from oracle import Oracle, flat, mixed, one_step, shaken

import fastbp as fb
from fastbp.kernels import codes
from fastbp.network import activations

KINKS = (0, 1, -1, 3, -3)  # of all activations together; the losses' are draw's
REACH, STEP, DIRECTIONS = 1e-4, 1e-6, 2
NETWORK = {"residual": [False, True], "embeddings": {2: (3, 2)}}
DROPS = {"dropout": [0.3, 0.2], "input_dropout": 0.1}
OUTPUTS = 4


def case(rng, activation, variant, loss, norm, drops):
    """(net, oracle, X, y, weight) with every number away from where something has a kink."""
    for _ in range(100):
        net = fb.MLP([4, 5, 5, OUTPUTS], activation, norm=norm, **NETWORK, **(DROPS if drops else {}),
                     seed=int(rng.integers(1000)), dtype="float64")  # fmt: skip
        shaken(net, rng)
        if loss.name == "gaussian_nll":  # below eps its gradient goes on, on purpose
            net.biases[-1][OUTPUTS // 2 :] += 5
        oracle, X = Oracle(net), mixed(rng, 9, 4, net.embedded, float)
        y, weight = draw.targets(rng, variant, 9, OUTPUTS), rng.uniform(0.2, 2, 9)
        *hidden, last = oracle.layers(X, 5, 3)
        near = any(np.abs(at["y"] - k).min() < REACH for at in hidden for k in KINKS)
        near |= draw.near_a_kink(loss.name, last["a"], y, REACH, **draw.constants(loss))
        if loss.name == "gaussian_nll":
            near |= bool((last["a"][:, OUTPUTS // 2 :] < np.log(loss.eps)).any())
        if not near:
            return net, oracle, X, y, weight
    raise AssertionError("no problem without a kink nearby")


def check(rng, activation, variant, loss, norm, drops):
    net, oracle, X, y, weight = case(rng, activation, variant, loss, norm, drops)

    def value():
        return draw.exact(variant, loss, oracle.layers(X, 5, 3)[-1]["a"], y, weight)[0]

    found, gradient = one_step(net, X, y, loss, None, 5, 2, weight=weight)
    assert found == pytest.approx(value(), rel=1e-9, abs=1e-12), (variant, drops)
    for _ in range(DIRECTIONS):
        direction = [rng.standard_normal(p.shape) for p in oracle.arrays()]
        oracle.move(direction, STEP)
        up = value()
        oracle.move(direction, -2 * STEP)
        slope = (up - value()) / (2 * STEP)
        oracle.move(direction, STEP)
        bound = 1e-6 * np.linalg.norm(gradient) * np.linalg.norm(flat(direction))
        bound += 2e-9 * max(1, abs(up))  # the rounding of both values
        assert abs(slope - gradient @ flat(direction)) < bound, (variant, drops)


@pytest.mark.parametrize("norm", [None, *codes.NORMS])
@pytest.mark.parametrize("activation", activations.NAMES)
def test_every_loss(rng, activation, norm):
    for variant, loss in (draw.VARIANTS | draw.weighted(OUTPUTS)).items():
        for drops in (False, True):
            check(rng, activation, variant, loss, norm, drops)
