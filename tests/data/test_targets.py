"""Labels or numbers: the one rule for targets, by their values."""

import decimal

import numpy as np
import pytest

from fastbp import data
from fastbp.data.written import Written


def counts(*shares):
    """Whole numbers from 0 on, as often as the shares say."""
    return np.repeat(np.arange(len(shares)), shares)


LABELS = {
    "two": [0, 1, 0],
    "two as floats": [0.0, 1.0, 1.0],
    "two apart": [-1, 7, 7],
    "bools": [True, False],
    "text": ["u", "v", "u"],
    "codes as text": ["1", "2", "3"] * 9,
    "None and NA are classes": ["None", "NA", "x"] * 9,
    "three": np.arange(60) % 3 - 1,
    "cylinders": np.repeat([4, 5, 6, 8], 20),
    "wine's quality": np.repeat([3, 4, 5, 6, 7, 8], [10, 53, 681, 638, 199, 18]),
    "letters": np.arange(2600) % 26,
    "faces": np.repeat(np.arange(40), 10),
    "a hundred": np.arange(5000) % 100 + 1,
    "months": np.arange(365) % 12 + 1,
}
NUMBERS = {
    "fractions": [0.5, 1.5] * 9,
    "ages": np.arange(1470) % 43 + 18,
    "delays": np.r_[np.arange(-86, 300), np.zeros(9000)],
    "prices": np.arange(500) * 37 + 10_000,
    "steps": np.repeat([100, 200, 300], 30),
    "counts": counts(400, 300, 150, 80, 40, 12, 6, 3, 2, 1, 1, 1, 1),
    "a few, each once": [1, 2, 3, 4, 5],
    "money": ["$1,013", "$5"] * 9,
    "percent": ["12%", "15%"] * 9,
    "numbers as text": ["10.5", "11"] * 9,
    "decimals": [decimal.Decimal("1.5"), decimal.Decimal(3)] * 9,
    "ages as text": [str(v) for v in np.arange(1470) % 43 + 18],
}


@pytest.mark.parametrize("name", LABELS)
def test_labels(name):
    assert data.target_kind(LABELS[name]).labels


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers(name):
    assert not data.target_kind(NUMBERS[name]).labels


def test_why_in_words_and_how_text_is_written():
    assert data.target_kind(NUMBERS["ages"]).why == "43 different whole numbers, 18 to 60"
    assert data.target_kind(NUMBERS["money"]) == (False, "numbers with $", Written("", ".", "$"))
    assert data.target_kind(NUMBERS["ages as text"]).written == Written()
    assert data.target_kind(LABELS["codes as text"]).written is None


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_of_any_library_with_gaps(library):
    module = pytest.importorskip(library)
    make = {"pandas": "Series", "polars": "Series", "pyarrow": "array"}[library]
    for values, labels in ([0, 1, None, 1], True), ([0.5, None], False), (["a", None, "b"], True):
        assert data.target_kind(getattr(module, make)(values)).labels == labels


def test_what_is_no_target():
    with pytest.raises(TypeError, match="target: got dates"):
        data.target_kind(np.array(["2020-01-01"], "M8[D]"))
    with pytest.raises(TypeError, match="target: got dates, the month first"):
        data.target_kind([f"1/{d}/2020" for d in range(1, 32)])
    with pytest.raises(ValueError, match="got infinity"):
        data.target_kind([1.0, np.inf])
    with pytest.raises(ValueError, match="has no value"):
        data.target_kind([None, np.nan])
    with pytest.raises(ValueError, match="50 different texts in 50 rows, such as 'name 0'; takes labels"):
        data.target_kind([f"name {i}" for i in range(50)])


def test_rows_that_have_a_target():
    assert data.present([1, None, 3]).tolist() == [True, False, True]
    assert data.present(["a", "", None, "NA"]).tolist() == [True, False, False, True]
    assert data.present(np.array([[1, np.nan], [1, 2]])).tolist() == [False, True]
    assert data.present(np.array(["2020", "NaT"], "M8[D]")).tolist() == [True, False]
    assert data.present(np.arange(3)).all() and data.present([True, False]).all()
