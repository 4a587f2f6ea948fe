"""What annotations name: the names that fastbp.types spells out are those that are taken; AnyTrainer."""

import typing

import pytest

import fastbp as fb
from fastbp import initializers, losses, metrics, optimizers, schedules, types
from fastbp.custom import functions
from fastbp.engine import devices
from fastbp.engine.anytrainer import AnyTrainer
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


def test_any_trainer_has_every_public_name_of_a_trainer():
    """An author of callbacks sees these; tests/pages/test_typed.py holds Trainer to their types."""
    names = {*dir(fb.Trainer(fb.MLP([1, 2])))}
    told = {*AnyTrainer.__annotations__, *vars(AnyTrainer)}
    assert {n for n in told if n[0] != "_"} == {n for n in names if n[0] != "_"}
