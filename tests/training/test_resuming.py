"""Training that goes on in another process: every optimizer, network and option, bit for bit."""

import copy
import subprocess
import sys
from pathlib import Path

import numpy as np

import fastbp as fb

ROOT = Path(__file__).resolve().parents[2]
RESUME = """
import sys
import numpy as np
import fastbp as fb
X = np.random.default_rng(1).standard_normal((50, 6)); y = np.arange(50) % 3
for path in sys.argv[1:]:
    trainer = fb.load(path)
    trainer.fit(X, y, epochs=3, sample_weight=np.arange(1.0, 51), validation_data=(X, y))
    trainer.save(path)
"""
NETWORKS = (
    {"dropout": 0.3, "input_dropout": 0.1},
    {"norm": "batch", "dropout": [0.2, 0.0]},
    {"norm": ["layer", "batch"], "residual": [False, True], "dropout": 0.1},
    {},
)
TRAININGS = (
    {"ema": 0.9, "schedule": fb.schedules.Cosine(total=40), "clip_norm": 0.5},
    {"accumulate": 3, "schedule": fb.schedules.Step(7, 0.5), "l1": 1e-4},
    {"schedule": fb.schedules.Plateau(patience=0, threshold=0.5), "clip_value": 0.05, "max_norm": 1.0},
    {"accumulate": 2, "ema": 0.99, "lr_factors": [0.5, 1.0, 0.0], "decay_bias": False},
    {"schedule": fb.schedules.Exponential(0.7), "clip_layer_norm": 0.3},
)


def test_a_new_process_resumes_every_optimizer_bit_for_bit(tmp_path):
    """Train 6 epochs = train 3, save, a new process, load, train 3: shuffled, weighted, with dropout, norms,
    and every option of the training in turn.
    """
    from ways import OPTIMIZERS

    X, y = np.random.default_rng(1).standard_normal((50, 6)), np.arange(50) % 3
    whole = {}
    for i, (name, optimizer) in enumerate(OPTIMIZERS.items()):
        for dtype, k in (("float32", i), ("float64", i + 2)):
            path = tmp_path / f"{name}.{dtype}.safetensors"
            for epochs in (6, 3):
                net = fb.MLP([6, 12, 12, 3], "silu", seed=0, dtype=dtype, **NETWORKS[k % len(NETWORKS)])
                options = TRAININGS[k % len(TRAININGS)]
                trainer = fb.Trainer(
                    net, "cross_entropy", copy.copy(optimizer), 16, seed=9, **copy.deepcopy(options)
                )
                trainer.fit(X, y, epochs=epochs, sample_weight=np.arange(1.0, 51), validation_data=(X, y))
                if epochs == 6:
                    whole[path] = trainer
            assert not np.array_equal(trainer.net.params, whole[path].net.params)
            trainer.save(path)
    done = subprocess.run(
        [sys.executable, "-c", RESUME, *map(str, whole)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    for path, trainer in whole.items():
        resumed = fb.load(path)
        assert np.array_equal(resumed.net.params, trainer.net.params), path.name
        # predict puts batch norm's statistics beside the average of the weights
        assert np.array_equal(resumed.predict(X), trainer.predict(X)), path.name
        assert np.array_equal(resumed.slots, trainer.slots), path.name
        assert (resumed.steps, resumed.epochs, resumed.seed) == (trainer.steps, trainer.epochs, 9)
