"""Processes that are killed at random moments: python tests/support/kills.py --count 60

train : one trains and saves each epoch. What it leaves is a whole model and whole lines of a log; whoever
goes on from there ends at the bits of a process that nobody killed.
compile : one compiles on an empty cache. The next one ends at the same bits, whatever is in the cache.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

if __name__ == "__main__":  # as a script: the checkout that it lies in
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import fastbp as fb

SIGNALS = [signal.SIGKILL, signal.SIGTERM, signal.SIGINT]
EPOCHS = 40
# trains to EPOCHS in all, from the file that is there, and prints the digest of the weights
TRAIN = f"""
import hashlib, os, sys
import numpy as np
import fastbp as fb
rng = np.random.default_rng(0)
X, y = rng.standard_normal((3000, 20)).astype("f4"), rng.integers(0, 3, 3000)
if os.path.exists("m.safetensors"):
    trainer = fb.load("m.safetensors", device="cpu")
else:
    trainer = fb.Trainer(fb.MLP([20, 64, 3], dropout=0.1, seed=0), device="cpu", seed=0)
trainer.predict(X[:1])
print("ready", flush=True)
calls = [fb.ModelCheckpoint("m.safetensors"), fb.CSVLogger("log.csv", append=True)]
history = trainer.fit(X, y, epochs={EPOCHS} - trainer.epochs, callbacks=calls, verbose=0)
if not history.stopped:
    print(hashlib.sha256(trainer.net.params.tobytes()).hexdigest())
"""


def start(folder, **environment):
    """A process that runs TRAIN in a folder."""
    variables = os.environ | {"PYTHONPATH": str(Path(fb.__file__).parents[1])} | environment
    return subprocess.Popen([sys.executable, "-P", "-c", TRAIN], cwd=folder, env=variables, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip


def end(process):
    """(the digest, what it said on stderr) of a process that nobody kills."""
    out, error = process.communicate(timeout=600)
    assert process.returncode == 0, error
    return out.split()[-1], error


def train(folder, number, chance):
    """Kill one that trains, several times, then let one end: (its digest, how many were killed)."""
    folder.mkdir()
    killed = 0
    for _ in range(3):
        process = start(folder)
        assert process.stdout.readline() == "ready\n", process.stderr.read()
        time.sleep(chance.uniform(0, 0.5))
        killed += process.poll() is None
        process.send_signal(number)
        out, error = process.communicate(timeout=60)
        assert number != signal.SIGINT or process.returncode in (0, -signal.SIGINT), error
        if (folder / "m.safetensors").exists():
            fb.load(folder / "m.safetensors", device="cpu")
        assert len([name for name in os.listdir(folder) if name.endswith(".tmp")]) <= 1
    if (folder / "log.csv").exists():
        log = (folder / "log.csv").read_text()
        lines = log.splitlines()
        assert not log or log.endswith("\n") and len({line.count(",") for line in lines}) == 1
    digest, _ = end(start(folder))
    assert sorted(os.listdir(folder)) == ["log.csv", "m.safetensors"]
    return digest, killed


def compile_anew(folder, number, chance, seconds, clean):
    """Kill one that compiles, then let one end: its digest. clean : on an empty cache."""
    if clean:
        for path in (folder / "cache").rglob("*.nb?"):
            path.unlink()
    for path in folder.glob("*.*"):
        path.unlink()
    process = start(folder, NUMBA_CACHE_DIR=str(folder / "cache"))
    time.sleep(chance.uniform(0, seconds))
    process.send_signal(number)
    process.communicate(timeout=600)
    for path in folder.glob("*.*"):
        path.unlink()
    return end(start(folder, NUMBA_CACHE_DIR=str(folder / "cache")))[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=60, help="kills in training; a fifth in compiling")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    chance, killed = random.Random(args.seed), 0
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "whole").mkdir()
        wanted, _ = end(start(folder / "whole"))
        for number in range(args.count // 3):
            digest, count = train(folder / str(number), SIGNALS[number % 3], chance)
            assert digest == wanted, f"train {number}: other bits"
            killed += count
        print(f"train: {killed} killed, the bits of the others are those of one that nobody killed")
        (folder / "compile").mkdir()
        began = time.monotonic()
        first = compile_anew(folder / "compile", signal.SIGKILL, chance, 0.01, True)
        seconds = time.monotonic() - began
        for number in range(args.count // 5):
            digest = compile_anew(folder / "compile", SIGNALS[number % 3], chance, seconds, number % 4 == 0)
            assert digest == first == wanted, f"compile {number}: other bits"
        print(
            f"compile: {args.count // 5} killed within {seconds:.0f} s of starting; the next one ended right"
        )


if __name__ == "__main__":
    main()
