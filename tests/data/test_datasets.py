"""The shipped data sets: what the files hold, and what an unknown name says."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from fastbp import datasets


def test_digits_shapes_and_values():
    X, y = datasets.load_digits()
    assert X.shape == (1797, 64) and X.dtype == np.uint8
    assert y.shape == (1797,) and y.dtype == np.int64
    assert X.min() == 0 and X.max() == 16
    # The class counts that UCI states for the test part.
    assert np.bincount(y).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_digits_are_untouched():
    X, y = datasets.load_digits()
    digest = hashlib.sha256(X.tobytes() + y.astype(np.uint8).tobytes()).hexdigest()
    assert digest == "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"


def test_digits_equal_scikit_learns_copy():
    theirs = pytest.importorskip("sklearn.datasets").load_digits()
    X, y = datasets.load("digits")
    assert np.array_equal(X, theirs.data) and np.array_equal(y, theirs.target)


def test_every_call_gives_arrays_of_its_own():
    first, _ = datasets.load("digits")
    first[:] = 99
    assert datasets.load("digits")[0].max() == 16


def test_every_name_loads_and_has_its_licence_stated():
    readme = Path(datasets.__file__).with_name("README.md").read_text()
    for name in datasets.names():
        X, y = datasets.load(name)
        assert len(X) == len(y) > 0
        assert f"## {name}.npz" in readme
    assert "CC BY 4.0" in readme and "10.24432/C50P49" in readme


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(ValueError, match=r"data set: got 'digts'; did you mean 'digits'\?"):
        datasets.load("digts")
    with pytest.raises(ValueError, match=r"got 'zzz'\. Known: digits"):
        datasets.load("zzz")
