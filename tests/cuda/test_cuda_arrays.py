"""Arrays that lie on the GPU, in the simulator: read in place, answered in place. See test_devices.py."""

import os
import sys
import types

import numpy as np
import pytest
from oracle import mixed

import fastbp as fb

if not int(os.environ.get("NUMBA_ENABLE_CUDASIM") or 0):
    pytest.skip("takes NUMBA_ENABLE_CUDASIM=1 and a run of its own", allow_module_level=True)

from fastbp.data.gpuarrays import OnDevice
from fastbp.kernels.cuda import data


class There:
    """What a library's array shows of itself; the simulator's device is this process's memory."""

    def __init__(self, array):
        self.array = array

    @property
    def __cuda_array_interface__(self):
        strides = None if self.array.flags["C_CONTIGUOUS"] else self.array.strides
        return {"shape": self.array.shape, "typestr": self.array.dtype.str, "strides": strides, "version": 3,
                "data": (self.array.ctypes.data, False)}  # fmt: skip


def layouts(values):
    """The same numbers by rows, by columns, and every other of a wider array."""
    wide = np.full((2 * len(values), 3 * values.shape[1]), 7, values.dtype)
    wide[::2, ::3] = values
    return values, np.asfortranarray(values), wide[::2, ::3]


def made(**options):
    return fb.Trainer(fb.MLP([3, 4, 2], seed=0), batch_size=4, seed=1, device="cuda", **options)


@pytest.mark.parametrize("kind", ["f4", "i8", "?"])
def test_read_in_place_of_any_dtype_and_layout(rng, kind):
    """fit, evaluate, gradients and predict: the same bits as from the host's array."""
    values = rng.integers(0, 2 if kind == "?" else 100, (11, 3)).astype(kind)
    y = rng.integers(0, 2, 11)
    found = []
    for X in (values, *map(There, layouts(values))):
        trainer = made()
        history = trainer.fit(X, y, epochs=2, validation_data=(X, y), metrics="f1").history
        loss, grads = trainer.gradients(X, There(y.copy()))
        out = trainer.predict(X)
        assert isinstance(out, np.ndarray) == isinstance(X, np.ndarray)
        out = out if isinstance(out, np.ndarray) else out.copy_to_host()
        assert out.shape == (11, 2)
        numbers = [
            history["loss"],
            history["val_loss"],
            [loss],
            out.ravel(),
            *(a.ravel() for p in grads for a in p),
        ]
        found.append(np.concatenate([trainer.net.params, *numbers]))
    for other in found[1:]:
        assert np.array_equal(other, found[0])


def test_nothing_is_copied(rng, monkeypatch):
    """No number of X goes anywhere: what allocates for it fails, and what is written there is seen."""
    X, y = rng.standard_normal((8, 3)).astype("f4"), rng.integers(0, 2, 8)
    trainer, asked = made(), []
    allocate = data.allocate
    monkeypatch.setattr(
        data, "allocate", lambda size, kind, what: asked.append(what) or allocate(size, kind, what)
    )
    monkeypatch.setattr(OnDevice, "__array__", lambda self: pytest.fail("X was copied"))
    trainer.fit(There(X), y)
    first = trainer.predict(There(X)).copy_to_host()
    assert "X" not in asked and "y" in asked
    X *= 2
    assert not np.array_equal(trainer.predict(There(X)).copy_to_host(), first)


def test_slices_and_splits(rng):
    values = rng.standard_normal((12, 3))
    for layout in layouts(values):
        there = OnDevice.of(There(layout))
        assert np.array_equal(there[3:9:2], values[3:9:2]) and np.array_equal(there[2:7, 1], values[2:7, 1])
        assert there[5, 2] == values[5, 2] and np.array_equal(there[[4, 1]], values[[4, 1]])
        assert len(there[12:]) == 0
    y, found = rng.integers(0, 2, 12), []
    for X in (values, There(values)):
        trainer = made()
        found.append(trainer.fit(X, y, epochs=2, validation_split=0.25).history["val_loss"])
    assert found[0] == found[1]


def test_embedded_columns_there(rng):
    found = []
    X, y = mixed(rng, 9, 3, [(1, 4, 2)], "float32"), rng.integers(0, 2, 9)
    for given in (X, There(X)):
        net = fb.MLP([3, 4, 2], embeddings={1: (4, 2)}, seed=0)
        fb.Trainer(net, batch_size=4, seed=1, device="cuda").fit(given, y)
        found.append(net.params)
    assert np.array_equal(*found)
    X[5, 1] = 4
    with pytest.raises(ValueError, match="X: got 4.0 at row 5, column 1, takes whole numbers from 0 to 3"):
        fb.Trainer(net, device="cuda").fit(There(X), y)


def test_what_is_refused(rng):
    X, y = rng.standard_normal((9, 3)), np.zeros(9, int)
    trainer, before = made(), made().net.params
    X[6, 2] = 1e300  # no float32
    for call in (trainer.fit, trainer.evaluate, trainer.gradients):
        with pytest.raises(ValueError, match=r"X: got 1e\+300 at row 6, column 2"):
            call(There(X), y)
    with pytest.raises(ValueError, match="at row 6, column 2"):
        trainer.predict(There(X))
    with pytest.raises(ValueError, match="X: got 2 columns, takes 3"):
        trainer.fit(There(X[:, :2].copy()), y)
    with pytest.raises(TypeError, match="X: got dtype complex64 on the GPU"):
        trainer.fit(There(X.astype("c8")), y)
    with pytest.raises(ValueError, match="X: got strides .* lie forward"):
        trainer.fit(There(X[::-1]), y)
    assert np.array_equal(trainer.net.params, before) and trainer.steps == 0


@pytest.mark.parametrize("name,convert", [("torch", "as_tensor"), ("cupy", "asarray")])
def test_predictions_are_of_the_library_of_x(rng, monkeypatch, name, convert):
    """Who makes them is asked with the device's array; the libraries themselves need a GPU."""
    owner = type("Array", (There,), {"__module__": f"{name}.core", "device": "cuda:0"})
    streams = types.SimpleNamespace(current_stream=lambda device: types.SimpleNamespace(cuda_stream=7))
    library = types.SimpleNamespace(**{convert: lambda array, **options: (array, options)}, cuda=streams)
    monkeypatch.setitem(sys.modules, name, library)
    X = rng.standard_normal((5, 3))
    assert OnDevice.of(owner(X)).stream == (7 if name == "torch" else None)
    array, options = made().predict(owner(X))
    assert array.shape == (5, 2) and options == ({"device": "cuda:0"} if name == "torch" else {})


def test_the_cpu_takes_them_too(rng):
    """A copy, since it has no other way."""
    X, y = rng.standard_normal((9, 3)), rng.integers(0, 2, 9)
    found = []
    for given in (X, There(X)):
        trainer = fb.Trainer(fb.MLP([3, 4, 2], seed=0), batch_size=4, seed=1, device="cpu")
        trainer.fit(given, y)
        found.append(trainer.predict(given))
    assert np.array_equal(*found)


def test_predictions_of_more_than_fits_come_in_pieces(rng, monkeypatch):
    X = rng.standard_normal((300, 3)).astype("f4")
    trainer = fb.Trainer(fb.MLP([3, 2], seed=0), device="cuda")
    whole, bound = trainer.predict(X), []
    monkeypatch.setattr(data, "room", lambda: 260 * (3 + 2) * 4)
    feed = data.feed
    monkeypatch.setattr(data, "feed", lambda x, *a: bound.append(len(x)) or feed(x, *a))
    assert np.array_equal(trainer.predict(X), whole) and bound == [256, 44]
    X[290, 1] = np.nan
    with pytest.raises(ValueError, match="at row 290, column 1"):
        trainer.predict(X)
