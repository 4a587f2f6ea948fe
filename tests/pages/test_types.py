"""fastbp.types: the names that it spells out for editors are those that are taken."""

import typing

import pytest

from fastbp import initializers, losses, metrics, optimizers, schedules, types
from fastbp.custom import functions
from fastbp.engine import devices
from fastbp.kernels import codes
from fastbp.network import activations

NAMES = {
    "ActivationName": activations.NAMES,
    "Device": devices.DEVICES,
    "InitializerName": initializers.INITIALIZERS,
    "Link": functions.LINKED,
    "LossName": [kind.name for kind in map(losses.__dict__.get, losses.__all__)],
    "MetricName": metrics.METRICS,
    "Norm": codes.NORMS,
    "OptimizerName": optimizers.OPTIMIZERS,
    "ScheduleName": schedules.SCHEDULES,
}


@pytest.mark.parametrize("name", NAMES)
def test_names_are_those_that_are_taken(name):
    assert set(typing.get_args(getattr(types, name))) == set(NAMES[name])
