"""Runs that are stopped and go on: signals, checkpoints."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import fastbp as fb
from fastbp.callbacks import LambdaCallback
from fastbp.cli import running
from fastbp.cli.signals import Signals

ROOT = Path(fb.__file__).resolve().parents[1]
SMALL = ["--hidden", "16", "--quiet", "--threads", "1"]


def _heard():
    """Signals that are ignored where this runs: under nohup, in the background of a shell."""
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


def begun(*argv):
    """`fastbp train` as a process that is told when the first epoch is over: its checkpoint is there."""
    variables = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "fastbp", "train", *map(str, argv)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=variables,
        start_new_session=True,
        preexec_fn=_heard,
    )
    until = time.monotonic() + 60
    while (
        not Path("fastbp-digits.checkpoint").exists() and process.poll() is None and time.monotonic() < until
    ):
        time.sleep(0.02)
    return process


@pytest.mark.parametrize("name, code", [("SIGTERM", 143), ("SIGINT", 130), ("SIGHUP", 129)])
@pytest.mark.parametrize("times", [1, 3])
def test_a_signal_ends_a_run_and_keeps_the_model(name, code, times):
    if not hasattr(signal, name):
        pytest.skip("no such signal here")
    argv = ["digits", *SMALL, "--epochs", 100000, "--patience", 0, "--checkpoint-every", 1]
    process = begun(*argv)
    for _ in range(times):  # impatient
        process.send_signal(getattr(signal, name))
        time.sleep(0.002)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "Traceback" not in err
    assert f"fit: stopped by {'Ctrl-C' if name == 'SIGINT' else name} after " in err
    model = fb.load("fastbp-digits.safetensors")
    assert model.steps >= 45 and model.preparation is not None
    assert sorted(p.name for p in Path().iterdir() if p.suffix != ".png") == [
        "fastbp-digits.checkpoint", "fastbp-digits.safetensors"
    ]  # fmt: skip
    if times == 1:
        assert "the model as trained so far is in fastbp-digits.safetensors; --resume" in err


def test_signals_wait_while_a_model_is_saved():
    with Signals(last=False) as signals:
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)  # what follows waits
        with pytest.raises(KeyboardInterrupt):
            with signals.held():
                os.kill(os.getpid(), signal.SIGINT)
        assert signals.code == 143
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_ignored_signals_stay_ignored(monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with Signals(last=False):
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_run_stopped_before_its_first_step_writes_nothing(run, monkeypatch, tmp_path):
    def interrupted(self, *args, **rest):
        raise KeyboardInterrupt

    monkeypatch.setattr(fb.Trainer, "fit", interrupted)
    code, out, err = run("train", "digits", *SMALL)
    assert code == 130 and err == "fastbp: interrupted\n" and not list(tmp_path.iterdir())


ENDLESS = ["--dropout", 0.1, "--norm", "batch", "--activation", "prelu", "--batch-size", 50]
WAYS = {
    "plain": ["--epochs", 7, "--patience", 0],
    "patience": ["--epochs", 40, "--patience", 3, "--lr", 0.02],
    "cosine": ["--epochs", 7, "--schedule", "cosine"],
    "onecycle": ["--epochs", 7, "--schedule", "onecycle", "--optimizer", "sgd", "--patience", 4],
    "plateau": ["--epochs", 9, "--schedule", "plateau", "--patience", 8, "--lr", 0.03],
    "balanced": ["--epochs", 6, "--class-weight", "balanced", "--clip-norm", 1, "--optimizer", "nadam"],
}


@pytest.mark.parametrize("way", WAYS)
def test_a_run_that_goes_on_has_the_same_bits(run, monkeypatch, tmp_path, way):
    """Killed after any epoch, from its last checkpoint; and the checkpoints themselves change nothing."""
    argv = ["train", "digits", *SMALL, *ENDLESS, *WAYS[way], "--json"]
    code, out, _ = run(*argv, "--out", "whole")
    assert code == 0
    whole, expected = (tmp_path / "whole.safetensors").read_bytes(), json.loads(out)
    every = 2
    for killed in (3, 5):
        save, saves = running.Checkpoint.save, []

        def last(self, *rest, save=save, saves=saves, killed=killed):
            save(self, *rest)
            saves.append(self)
            if self.history and len(self.history["loss"]) >= killed - killed % every:
                raise OSError("power cut")

        monkeypatch.setattr(running.Checkpoint, "save", last)
        code, _, err = run(*argv, "--out", "half", "--checkpoint-every", every, "--overwrite")
        assert code == 2 and "power cut" in err and saves
        monkeypatch.setattr(running.Checkpoint, "save", save)
        code, out, _ = run(*argv, "--out", "half", "--resume")
        result = json.loads(out)
        assert code == 0 and (tmp_path / "half.safetensors").read_bytes() == whole
        for name in ("epochs", "steps", "test"):
            assert result[name] == expected[name]
        for name in result["history"].keys() - {"seconds"}:
            assert result["history"][name] == expected["history"][name]
        assert not (tmp_path / "half.checkpoint").exists()


def test_what_cannot_go_on_is_said(run, fails, monkeypatch, tmp_path):
    argv = ["train", "digits", *SMALL, "--patience", 0, "--out", "d"]
    whole = fb.Trainer.fit

    def stop(epoch, logs):
        if epoch == 2:
            raise KeyboardInterrupt

    def interrupted(self, *args, callbacks, **rest):
        return whole(self, *args, callbacks=[*callbacks, LambdaCallback(on_epoch_end=stop)], **rest)

    monkeypatch.setattr(fb.Trainer, "fit", interrupted)
    code, _, err = run(*argv, "--epochs", 5, "--checkpoint-every", 1)
    assert code == 130 and "--resume goes on from d.checkpoint" in err
    monkeypatch.setattr(fb.Trainer, "fit", whole)
    fails(*argv, "--epochs", 5, "--resume", "--lr", 0.5, says=["--resume", "--lr None, this one has 0.5"])
    fails(*argv, "--epochs", 5, "--resume", "--test-fraction", 0.3, says=["--resume", "data"])
    content = (tmp_path / "d.checkpoint").read_bytes()
    (tmp_path / "d.checkpoint").write_bytes(content[:1000])
    fails(*argv, "--epochs", 5, "--resume", says=["d.checkpoint: is no checkpoint of fastbp train"])
    (tmp_path / "d.checkpoint").write_bytes(content)
    code, out, err = run(*argv, "--epochs", 9, "--resume")  # more of them
    assert code == 0 and fb.load("d.safetensors").epochs == 9
    fails(*argv, "--resume", says=["d.safetensors is there already"])
    code, _, err = run(*argv, "--epochs", 1, "--resume", "--overwrite")
    assert code == 0 and "no checkpoint d.checkpoint: beginning with the first epoch" in err


def test_digests_differ_where_the_data_does():
    X = np.arange(12.0).reshape(4, 3)
    frame = fb.data.frames.Frame(["a", "b"], [X[:, 0], np.array(list("wxyz"))])
    other = fb.data.frames.Frame(["a", "b"], [X[:, 0], np.array(list("wxya"))])
    tables = [X, X.T.copy(), X.astype(np.float32), X + 1e-12, frame, other, np.zeros(0)]
    assert len({running.digest(table) for table in tables}) == len(tables)
    assert running.digest(X, None) == running.digest(np.asfortranarray(X), None)
