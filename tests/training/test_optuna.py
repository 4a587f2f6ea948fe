"""Pruning by Optuna: in fit, and in fit_many, where a trial that is pruned ends no other."""

import numpy as np
import pytest

import fastbp as fb
from fastbp.optuna import PruningCallback

optuna = pytest.importorskip("optuna")
optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.fixture
def data(rng):
    X = rng.standard_normal((120, 4)).astype("f4")
    return X, (X[:, 0] > 0).astype(int)


def trainer(lr=0.01, seed=0):
    return fb.Trainer(fb.MLP([4, 8, 2], seed=seed), optimizer=fb.Adam(lr), seed=seed)


class Threshold(optuna.pruners.BasePruner):
    """Prunes trial 1, 3, ... once they have a value of step 2."""

    def prune(self, study, trial):
        return trial.number % 2 == 1 and trial.last_step >= 2


def test_fit_raises_and_the_trainer_is_whole(data):
    study = optuna.create_study(pruner=Threshold())
    study.ask()
    trial, t, other = study.ask(), trainer(), trainer()
    with pytest.raises(optuna.TrialPruned, match="pruned at epoch 2"):
        t.fit(*data, epochs=9, validation_data=data, callbacks=[PruningCallback(trial)], verbose=0)
    assert t.history.epochs == t.epochs == 3
    history = other.fit(*data, epochs=3, validation_data=data, verbose=0)
    assert np.array_equal(t.net.params, other.net.params)
    values = study.trials[1].intermediate_values
    assert list(values.values()) == history.history["val_loss"] == t.history.history["val_loss"]
    t.fit(*data, verbose=0)


def test_of_many_only_those_that_are_pruned_end(data):
    """Ask for some, train them in one call, tell."""
    study = optuna.create_study(pruner=Threshold())
    trials = [study.ask() for _ in range(4)]
    make = lambda: [trainer(t.suggest_float("lr", 1e-3, 1e-1, log=True), t.number) for t in trials]  # noqa: E731
    trainers, alone = make(), make()
    alone[3].gradient_hook = trainers[3].gradient_hook = lambda gradients: None  # one that is trained alone
    histories = fb.fit_many(
        trainers, *data, epochs=5, validation_data=data,
        callbacks=[[PruningCallback(t, "val_accuracy")] for t in trials],
    )  # fmt: skip
    for trial, history in zip(trials, histories, strict=True):
        if isinstance(history.error, optuna.TrialPruned):
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            study.tell(trial, history.history["val_accuracy"][-1])
    assert [t.state.name for t in study.trials] == ["COMPLETE", "PRUNED"] * 2
    assert [h.epochs for h in histories] == [5, 3, 5, 3]
    for a, b, epochs in zip(trainers, alone, (5, 3, 5, 3), strict=True):
        b.fit(*data, epochs=epochs, validation_data=data, verbose=0)
        assert np.array_equal(a.net.params, b.net.params) and a.epochs == b.epochs


def test_interval_and_monitor(data):
    study = optuna.create_study(pruner=Threshold())
    study.ask()
    with pytest.raises(optuna.TrialPruned, match="pruned at epoch 3"):
        trainer().fit(
            *data, epochs=9, callbacks=[PruningCallback(study.ask(), "loss", interval=4)], verbose=0
        )
    study.ask()
    with pytest.raises(ValueError, match="PruningCallback monitor: got 'val_loss', this fit measures loss"):
        trainer().fit(*data, epochs=9, callbacks=[PruningCallback(study.ask())], verbose=0)
    with pytest.raises(ValueError, match="PruningCallback interval: got 0"):
        PruningCallback(None, interval=0)
