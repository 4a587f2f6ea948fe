"""Model files: what a damaged or odd one does, and what is never written."""

import json
import os

import damage
import numpy as np
import pytest

import fastbp as fb
from fastbp.preparation import Preparation


def test_bad_files_are_refused(rng, tmp_path):
    from safetensors import safe_open
    from safetensors.numpy import load_file, save_file

    trainer = fb.Trainer(fb.MLP([4, 5, 2], seed=0), seed=0)
    path = tmp_path / "m.safetensors"
    trainer.save(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="no safetensors file"):
        fb.load(path)
    path.write_bytes(content)
    tensors = load_file(path)
    with safe_open(path, "numpy") as f:
        good = json.loads(f.metadata()["fastbp"])
    del good["sha256"]  # of other content than what follows
    bad = [
        {"format": 99}, {"steps": -1}, {"steps": 10**30}, {"steps": float("inf")}, {"seed": 2**70},
        {"net": {**good["net"], "sizes": [10**9, 10**9]}}, {"net": {**good["net"], "sizes": "[4, 5, 2]"}},
        {"net": [1]}, {"optimizer": {"name": "os.system"}}, {"optimizer": None}, {"loss": ["mse"]},
        {"batch_size": 0}, {"options": {"clip_norm": "1"}}, {"epochs": True}, {"options": {"net": 1}},
        {"options": None}, {"schedule": {"name": "os.system"}}, {"schedule": {"name": "step"}},
        {"schedule_state": [1]}, {"schedule_state": {"best": "1"}}, {"frozen": [2]}, {"frozen": ["0"]},
        {"frozen": 0}, {"lr_scale": "1"}, {"lr_scale": -1}, {"lr_scale": float("nan")},
    ]  # fmt: skip
    for change in bad:
        save_file(tensors, path, {"fastbp": json.dumps({**good, **change})})
        with pytest.raises(ValueError, match="no usable fastbp configuration"):
            fb.load(path)
    for text in ("{", "[" * 100_000, "null", "7"):
        save_file(tensors, path, {"fastbp": text})
        with pytest.raises(ValueError, match="no usable fastbp configuration"):
            fb.load(path)
    save_file(tensors, path)
    with pytest.raises(ValueError, match="no usable fastbp configuration"):
        fb.load(path)
    extra = {**tensors, "weights.9": tensors["weights.0"]}
    for wrong in (extra, dict(list(tensors.items())[1:]), {**tensors, "biases.0": np.zeros(6, "f4")}):
        save_file(wrong, path, {"fastbp": json.dumps(good)})
        with pytest.raises(ValueError, match="its arrays are not those of its sizes"):
            fb.load(path)
    save_file({**tensors, "biases.0": np.full(5, np.nan, "f4")}, path, {"fastbp": json.dumps(good)})
    with pytest.raises(ValueError, match="biases.0 has NaN or inf"):
        fb.load(path)
    save_file({**tensors, "biases.0": np.zeros(5)}, path, {"fastbp": json.dumps(good)})
    with pytest.raises(ValueError, match="biases.0 is float64"):
        fb.load(path)
    with pytest.raises(FileNotFoundError):
        fb.load(tmp_path / "absent.safetensors")


def prepared(rng, **options):
    """A trainer with all that a file holds: slots, average, norm, embeddings, preparation."""
    net = fb.MLP([4, 5, 3, 2], ["prelu", "relu"], norm=["batch", "layer"], embeddings={1: (3, 2)}, seed=0)
    trainer = fb.Trainer(net, "mse", fb.Adam(0.01), schedule="plateau", ema=0.9, seed=3, **options)
    X = rng.standard_normal((20, 4)).astype("f4")
    X[:, 1] = rng.integers(0, 3, 20)
    trainer.preparation = Preparation(4, ["a", "b", "c", "d"], mean=np.zeros(4), scale=np.ones(4),
                                      y_mean=np.ones(2), y_scale=np.full(2, 3.0), target="t")  # fmt: skip
    trainer.fit(X, rng.standard_normal((20, 2)))
    return trainer, X


def test_a_bit_flipped_anywhere_is_noticed(rng, tmp_path):
    """Of names, numbers, the configuration, its checksum."""
    trainer, X = prepared(rng)
    path = tmp_path / "m.safetensors"
    trainer.save(path)
    content = path.read_bytes()
    assert np.array_equal(fb.load(path).predict(X), trainer.predict(X))
    for place in rng.permutation(len(content))[:400].tolist():
        bit = int(rng.integers(8))
        damaged = bytearray(content)
        damaged[place] ^= 1 << bit
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="m.safetensors: (is damaged|is no safetensors|has no usable)"):
            fb.load(path)
            pytest.fail(f"byte {place}, bit {bit} of {content[place : place + 1]}")


def test_a_file_without_a_checksum_is_read(rng, tmp_path):
    """Of a version before there was one."""
    from safetensors.numpy import load_file, save_file

    trainer, X = prepared(rng)
    path = tmp_path / "m.safetensors"
    trainer.save(path)
    text, tensors = configuration(path), load_file(path)
    save_file(tensors, path, {"fastbp": text})
    assert np.array_equal(fb.load(path).predict(X), trainer.predict(X))
    for odd in ({"fastbp": text, "more": "?"}, {"fastbp": '{"sha257": "?", ' + text[1:]}):
        save_file(tensors, path, odd)
        with pytest.raises(ValueError, match="has no usable fastbp configuration"):
            fb.load(path)


def configuration(path):
    """The JSON in a model's metadata, without the checksum."""
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        config = json.loads(file.metadata()["fastbp"])
    del config["sha256"]
    return json.dumps(config)


@pytest.mark.parametrize("kind", ["bfloat16", "float16", "float8_e4m3fn", "float8_e5m2", "int8"])
def test_tensors_of_other_types_are_refused_by_name(rng, tmp_path, kind):
    torch, saving = pytest.importorskip("torch"), pytest.importorskip("safetensors.torch")
    trainer, _ = prepared(rng)
    path = tmp_path / "m.safetensors"
    trainer.save(path)
    text, tensors = configuration(path), saving.load_file(path)
    tensors["weights.1"] = tensors["weights.1"].to(getattr(torch, kind))
    saving.save_file(tensors, path, {"fastbp": text})
    with pytest.raises(ValueError, match=rf"weights.1 is ({kind}|F8_\w+|I8), takes float32"):
        fb.load(path)


def test_what_load_would_refuse_is_not_written(rng, tmp_path):
    trainer, X = prepared(rng)
    path = tmp_path / "m.safetensors"
    trainer.save(path)
    content = path.read_bytes()

    def refused(says):
        with pytest.raises(
            ValueError, match=f"save: {says}.*; load would refuse that, so nothing was written"
        ):
            trainer.save(path)
        assert path.read_bytes() == content and os.listdir(tmp_path) == ["m.safetensors"]

    for array, name in ((trainer.slots, "slot0.weights.0"), (trainer.net.params, "weights.0")):
        kept, array[0] = array[0], np.nan
        refused(f"{name} has NaN or inf")
        array[0] = kept
    for name, bad, says in [
        ("lr_scale", float("nan"), "got nan for a factor"), ("steps", -1, "got -1 for a number of steps"),
        ("columns", [1], "got .1. for the names"), ("schedule_state", {"best": None}, "best"),
    ]:  # fmt: skip
        kept = getattr(trainer, name)
        setattr(trainer, name, bad)
        refused(says)
        setattr(trainer, name, kept)
    trainer.optimizer.lr = -1.0
    refused("Adam lr")
    trainer.optimizer.lr = 0.01
    trainer.preparation.scale = np.zeros(4)
    refused("its preparation does not fit")
    trainer.preparation.scale = np.ones(4)
    trainer.save(path)
    assert path.read_bytes() == content


def test_damaged_and_odd_files_are_refused_or_work(tmp_path):
    """The short form of `python tests/support/damage.py`; docs/reproduce.md has the long one's counts."""
    counts, findings = damage.battery(200, 2, tmp_path)
    assert findings == {} and sum(counts.values()) == 200
    assert counts["refused"] > 100 and counts["used"] > 5


def test_models_that_are_no_files(tmp_path):
    with pytest.raises(IsADirectoryError):
        fb.load(tmp_path)
    with pytest.raises(FileNotFoundError):
        fb.load(b"absent")
