"""Numbers and dates that stand as text: one rule for a column, learned once."""

import datetime

import numpy as np
import pytest

from fastbp.data.written import Written, doubtful, written

DAY = 86400.0


@pytest.mark.parametrize(
    "text, point, comma",
    [
        ("1013", 1013, 1013), ("-5", -5, -5), ("+4", 4, 4), ("\u22125", -5, -5), ("(5)", -5, -5),
        ("--5", None, None),
        ("1,013", 1013, 1.013), ("1.013", 1.013, 1013), ("1,013.5", 1013.5, None), ("1.013,5", None, 1013.5),
        ("1,23", None, 1.23), ("1,234,56", None, None), ("1 234 567,5", None, 1234567.5), 
        ("1'000", 1000, 1000),
        ("0,5", None, 0.5), (".5", 0.5, None), ("5.", 5, None), ("1e5", 1e5, 1e5), ("1e999", None, None),
        ("007", None, None), ("0", 0, 0), ("0.7", 0.7, None), ("1_000", None, None), ("", None, None),
        ("nan", None, None), ("inf", None, None), ("1 2", None, None), ("12:30", None, None),
        ("5 kg", None, None),
        ("$", None, None), ("(5", None, None), ("(-5)", None, None),
    ],
)  # fmt: skip
def test_what_is_a_number(text, point, comma):
    assert Written("", ".").value(text) == point
    assert Written("", ",").value(text) == comma


@pytest.mark.parametrize(
    "texts, way, numbers",
    [
        (
            ["$1,013", " $5", "-$3.50", "$-3", "($1)", ""],
            Written("", ".", "$"),
            [1013, 5, -3.5, -3, -1, np.nan],
        ),
        (["12%", "5.5 %", "NA"], Written("", ".", "%"), [12, 5.5, np.nan]),
        (["US$5", "US$ 6"], Written("", ".", "US$"), [5, 6]),
        (["5 \u20ac", "1.013,20 \u20ac"], Written("", ",", "\u20ac"), [5, 1013.2]),
        (["1,5", "2"], Written("", ","), [1.5, 2]),
        (["1,500", "2"], Written(), [1500, 2]),
        (["1.500", "2,5"], Written("", ","), [1500, 2.5]),
        (["3", "none", "nan", "?", "<NA>"], Written(), [3, *[np.nan] * 4]),
    ],
)
def test_a_column_of_numbers(texts, way, numbers):
    assert written(texts) == way
    assert np.array_equal(way.read(np.array(texts), "x"), numbers, equal_nan=True)


@pytest.mark.parametrize(
    "texts",
    [
        ["a", "b"], ["1", "b"], [], ["", "NA"], ["$5", "\u20ac5"], ["12%", "12"], ["00501", "10001"],
        ["1.5", "2,5"], ["2020-01-01", "5"], ["2020-13-01"], ["31/02/2020"], ["1.2.3"], ["1/2/3"],
        ["20-01-31"],
    ],
)  # fmt: skip
def test_a_column_that_is_text(texts):
    assert written(texts) is None


@pytest.mark.parametrize(
    "order, texts, moments",
    [
        ("ymd", ["2020-03-01", "2020-3-2", ""], [(2020, 3, 1), (2020, 3, 2)]),
        ("ymd", ["2020/03/01 12:30", "1969/12/31"], [(2020, 3, 1, 12, 30), (1969, 12, 31)]),
        ("ymd", ["2020-03-01T12:30:15.5Z", "2020-03-01 12:30:15+02:00"],
         [(2020, 3, 1, 12, 30, 15, 500000), (2020, 3, 1, 12, 30, 15)]),
        ("dmy", ["1/2/2020", "13/2/2020"], [(2020, 2, 1), (2020, 2, 13)]),
        ("dmy", ["1.2.2020", "3.4.2020"], [(2020, 2, 1), (2020, 4, 3)]),
        ("mdy", ["3/11/21 10:28", "12/31/69"], [(2021, 3, 11, 10, 28), (1969, 12, 31)]),
        ("mdy", ["1/2/2020 3:45 PM", "2/13/2020 12:05 am"], [(2020, 1, 2, 15, 45), (2020, 2, 13, 0, 5)]),
        ("time", ["23:59", "0:01:30"], [(1970, 1, 1, 23, 59), (1970, 1, 1, 0, 1, 30)]),
    ],
)  # fmt: skip
def test_a_column_of_dates(order, texts, moments):
    way = written(texts)
    assert way == Written(order)
    found = way.read(np.array(texts), "x")
    epoch = datetime.datetime(1970, 1, 1)
    assert found[: len(moments)].tolist() == [
        (datetime.datetime(*m) - epoch).total_seconds() for m in moments
    ]
    assert np.isnan(found[len(moments) :]).all()


def test_days_that_may_be_months_are_nobody_s_guess():
    assert written(["1/2/2020", "3/4/2020"]) is None and doubtful(["1/2/2020", "3/4/2020"])
    assert not doubtful(["1/2/2020", "13/4/2020"]) and not doubtful(["a"])


def test_what_is_not_written_so_is_refused_by_row():
    with pytest.raises(ValueError, match=r"x has '\u20ac5' in row 8, takes numbers with \$"):
        Written("", ".", "$").read(np.array(["$1", "\u20ac5"]), "x", first=7)
    with pytest.raises(ValueError, match="x has 'soon' in row 0, takes dates, the day first"):
        Written("dmy").read(np.array(["soon"]), "x")
    for bad in [("ydm",), ("", "x"), ("", ".", "kg"), ("", ".", 5)]:
        with pytest.raises(ValueError, match="takes an order of dates"):
            Written(*bad)
