"""Half an hour of everything at once, with flat memory: python tests/support/soak.py --minutes 30

Rounds of a mixture: fits, streams, single steps, predictions, evaluations, saving and loading, fit_many,
callbacks, new Trainers, activations and losses of one's own, estimators. Resident memory is sampled after
each round. What the first WARM share of the time has brought stays: code, caches, pools. After that a line
through the samples may not rise by more than GROWTH bytes.
"""

import argparse
import ctypes
import gc
import os
import resource
import sys
import tempfile
import time
import warnings
from pathlib import Path

if __name__ == "__main__":  # as a script: the checkout that it lies in
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

import fastbp as fb

WARM, GROWTH = 0.3, 8 << 20


def resident():
    """Bytes, once all that is free has been given back: sizes that change leave holes, which are no leak."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc
    if trim is not None:
        trim(0)
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def square(z):
    return z * z / (1 + z * z)


class Mixture:
    """What a long-lived process does; each round another size, so that nothing fits the last one's place."""

    def __init__(self, folder):
        self.rng, self.folder, self.round = np.random.default_rng(0), folder, 0
        self.kept = self.trainer(16)

    def trainer(self, width, **options):
        sizes = [8, width, width, 3]
        net = fb.MLP(
            sizes, ["relu", "prelu"], norm=[None, "batch"], dropout=0.1, embeddings={7: (5, 3)}, seed=0
        )
        return fb.Trainer(net, optimizer="adamw", batch_size=32, seed=0, **options)

    def data(self, rows):
        X = self.rng.standard_normal((rows, 8)).astype("f4")
        X[:, 7] = self.rng.integers(0, 5, rows)
        return X, self.rng.integers(0, 3, rows)

    def once(self):
        self.round += 1
        X, y = self.data(200 + 10 * (self.round % 37))  # no batch of 1
        width, kept = 8 + self.round % 61, self.kept
        kept.fit(X, y, 2, validation_data=(X, y), metrics=["f1"], verbose=0)
        kept.fit(lambda: ((X[k : k + 64], y[k : k + 64]) for k in range(0, 192, 64)), verbose=0)
        for k in range(10):
            kept.train_on_batch(X[k : k + 32], y[k : k + 32])
        kept.predict(X), kept.predict(X[:1]), kept.predict(X, samples=2), kept.evaluate(X, y)
        kept.gradients(X, y), kept.input_gradients(X, 0), kept.activations(X), kept.diagnose(X, y)
        path = f"{self.folder}/m.safetensors"
        calls = [
            fb.ModelCheckpoint(path),
            fb.EarlyStopping(patience=2),
            fb.CSVLogger(f"{self.folder}/log.csv"),
        ]
        new = self.trainer(width, ema=0.9, clip_norm=1.0)
        new.fit(X, y, 3, validation_split=0.2, callbacks=calls, verbose=0)
        fb.load(path).fit(X, y, verbose=0)
        many = [self.trainer(4 + k + self.round % 17) for k in range(4)]
        fb.fit_many(many, X, y, epochs=2, rows=[np.arange(2 * k, len(X)) for k in range(4)], verbose=0)
        own = fb.MLP([8, width, 1], fb.activation(square), seed=0, dtype="float64")
        tilted = fb.loss(lambda z, t: (z - t) ** 2 if z < t else 3 * (z - t) ** 2, name="tilted")
        fb.Trainer(own, tilted, threads=2).fit(X, y.astype(float), verbose=0)
        if self.round % 5 == 0:
            self.estimators(X, y)
        if self.round % 50 == 0:
            self.kept = fb.load(path)

    def estimators(self, X, y):
        try:
            from fastbp.sklearn import MLPClassifier, MLPRegressor
        except ImportError:
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of few epochs
            MLPClassifier((8,), max_iter=3, early_stopping=True, random_state=0).fit(X, y).predict(X)
            MLPRegressor(hidden_layer_sizes=(8,), max_iter=3, solver="lbfgs", preset="tabular").fit(
                X, y * 1.0
            ).predict(X)


def soak(seconds):
    """(seconds, bytes) of the samples, and by how much their line rises from WARM of the time on."""
    began, samples = time.monotonic(), []
    with tempfile.TemporaryDirectory() as folder:
        mixture = Mixture(folder)
        while (now := time.monotonic() - began) < seconds or len(samples) < 20:
            mixture.once()
            samples.append((now, resident()))
    times, sizes = np.array(samples).T
    late = times >= WARM * times[-1]
    slope = np.polyfit(times[late], sizes[late], 1)[0]
    return times, sizes, slope * (times[-1] - times[late][0])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30)
    args = parser.parse_args()
    times, sizes, rise = soak(60 * args.minutes)
    for k in range(0, len(times), max(1, len(times) // 20)):
        print(f"{times[k] / 60:5.1f} min {sizes[k] / 1e6:8.1f} MB")
    print(
        f"{len(times)} rounds: from {WARM:.0%} of the time on {rise / 1e6:+.1f} MB, takes {GROWTH / 1e6:.1f}"
    )
    return int(rise > GROWTH)


if __name__ == "__main__":
    os.environ.setdefault("NUMBA_NUM_THREADS", "2")
    sys.exit(main())
