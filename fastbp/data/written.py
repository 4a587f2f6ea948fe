"""Numbers and dates that stand as text: one rule for a whole column, learned once and kept.

A column of text is numbers if every value that is there is one, all in the same way of writing:

- a sign before, or brackets around what is below zero;
- thousands parted by comma, blank, apostrophe or (where the comma is the decimal sign) point, by threes;
- a decimal point, or in the whole column a decimal comma where points would not do;
- one and the same currency sign, or % or per mille, before or after each; the number is what is written,
  12 for 12%.

Whole numbers with a leading 0 (00501) are codes, so the column stays text. A column is dates if every
value is one of the same order: year first; or day first or month first, where no value leaves a doubt
(points mean day first); a time may follow, or stand alone. Times are those of the clock: a zone is passed
over.
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..types import Array, Doubles

MISSING_TEXTS = frozenset(
    ("", "na", "n/a", "n.a.", "#n/a", "nan", "nat", "null", "none", "<na>", "?", ".", "-", "--")
)

_SIGN = "[A-Z]{0,3}[$\xa2-\xa5\u0e3f\u20a0-\u20cf]|[%\u2030]"
_NUMBER = (
    r"(?P<open>\()?(?P<minus>[-+\u2212])?\s*(?P<before>{sign})?\s*(?P<minus2>[-+\u2212])?"
    r"(?P<whole>\d{{1,3}}(?:(?P<part>[{parts}])\d{{3}})(?:(?P=part)\d{{3}})*|\d*)"
    r"(?:{point}(?P<rest>\d*))?(?P<power>[eE][-+]?\d+)?\s*(?P<after>{sign})?(?P<close>\))?"
)
_NUMBERS = {
    decimal: re.compile(_NUMBER.format(sign=_SIGN, parts=parts + " '\u2019\xa0\u202f", point=f"[{decimal}]"))
    for decimal, parts in ((".", ","), (",", "."))
}
_TIME = (
    r"(?P<hour>\d\d?):(?P<minute>\d\d)(?::(?P<second>\d\d(?:[.,]\d+)?))?(?:\s*(?P<half>[AaPp])\.?[Mm]\.?)?"
    r"\s*(?:Z|UTC|GMT|[-+]\d\d(?::?\d\d)?)?"
)
_YEAR, _MONTH, _DAY = r"(?P<year>\d{4})", r"(?P<month>\d\d?)", r"(?P<day>\d\d?)"
_LAST = r"(?P<year>\d{4}|(?<=[/.])\d\d)"  # of two digits: 1969 to 2068, as POSIX has it
_DATES = {
    order: re.compile(date + (rf"(?:[T\s]\s*{_TIME})?" if order != "time" else ""))
    for order, date in (
        ("ymd", rf"{_YEAR}(?P<by>[-/.]){_MONTH}(?P=by){_DAY}"),
        ("dmy", rf"{_DAY}(?P<by>[-/.]){_MONTH}(?P=by){_LAST}"),
        ("mdy", rf"{_MONTH}(?P<by>[-/]){_DAY}(?P=by){_LAST}"),
        ("time", _TIME),
    )
}
_EPOCH = datetime.date(1970, 1, 1).toordinal()


def is_missing(text: str) -> bool:
    """Whether a text among numbers or dates says that there is none."""
    return text.strip().casefold() in MISSING_TEXTS


@dataclass(frozen=True)
class Written:
    """How a column writes its values: order, of dates ("ymd", "dmy", "mdy", "time"), or ""; of numbers
    decimal, "." or ",", and sign, that of a currency, % or "".
    """

    order: str = ""
    decimal: str = "."
    sign: str = ""

    def __post_init__(self) -> None:
        good = self.order in ("", *_DATES) and self.decimal in _NUMBERS and isinstance(self.sign, str)
        if not good or (self.sign and not re.fullmatch(_SIGN, self.sign)):
            raise ValueError(f"got {self!r}, takes an order of dates, or a decimal sign and a currency's")

    def value(self, text: str) -> float | None:
        """The number, or the seconds since 1970, that ``text`` is; None where it is none of these."""
        if self.order:
            return _seconds(text.strip(), self.order)
        found = _number(text.strip(), self.decimal)
        return found[0] if found and found[1] == self.sign else None

    def knows(self, text: str) -> bool:
        """Whether ``text`` is written so."""
        return self.value(text) is not None

    def read(self, texts: Array, where: str, first: int = 0) -> Doubles:
        """(N,) float64: numbers or seconds since 1970, NaN where missing.

        where, first: the column and the number of its first row, for the ValueError of what is neither.
        """
        different, places = np.unique(texts, return_inverse=True)
        values = np.empty(len(different))
        for i, text in enumerate(different.tolist()):
            value = np.nan if is_missing(text) else self.value(text)
            if value is None:
                row = first + int(np.argmax(places == i))
                raise ValueError(f"{where} has {text!r} in row {row}, takes {self}")
            values[i] = value
        return values[places]

    def __str__(self) -> str:
        """What it takes, for messages."""
        if self.order:
            return {
                "ymd": "dates, the year first",
                "dmy": "dates, the day first",
                "mdy": "dates, the month first",
                "time": "times of day",
            }[self.order]
        sign = f" with {self.sign}" if self.sign else ""
        return f"numbers{sign}" + (" and a decimal comma" if self.decimal == "," else "")


def written(texts: Iterable[str], decimals: Iterable[str] = ".,") -> Written | None:
    """How a column of text writes numbers or dates; None where it is neither throughout, or holds nothing.

    decimals: the decimal signs to look for, the likelier first."""
    there = [text for text in texts if not is_missing(text)]
    if not there:
        return None
    for decimal in decimals:
        sign = (_number(there[0].strip(), decimal) or (0, None))[1]
        if sign is not None and all(map((way := Written("", decimal, sign)).knows, there)):
            return way
    orders = [order for order in _DATES if all(map(Written(order).knows, there))]
    return Written(orders[0]) if len(orders) == 1 else None


def doubtful(texts: Iterable[str]) -> bool:
    """Whether these are dates of which nobody can say what is the day and what the month."""
    there = [text for text in texts if not is_missing(text)]
    return bool(there) and all(all(map(Written(order).knows, there)) for order in ("dmy", "mdy"))


def _number(text: str, decimal: str) -> tuple[float, str] | None:
    """(the number, its currency's or per cent sign) of a text, or None."""
    found = _NUMBERS[decimal].fullmatch(text)
    if found is None:
        return None
    part = found.groupdict(default="")
    digits = part["whole"].replace(part["part"], "") if part["part"] else part["whole"]
    code = len(digits) > 1 and digits[0] == "0"
    signs = part["before"] + part["after"]
    if code or not digits + part["rest"] or (part["before"] and part["after"]):
        return None
    if (
        bool(part["open"]) != bool(part["close"])
        or bool(part["open"]) + len(part["minus"] + part["minus2"]) > 1
    ):
        return None
    value = float(f"{digits or 0}.{part['rest'] or 0}{part['power']}")
    if value == float("inf"):
        return None
    below = part["open"] or part["minus"] + part["minus2"] not in ("", "+")
    return -value if below else value, signs


def _seconds(text: str, order: str) -> float | None:
    """Seconds since 1970 of a date, those of the day for a time alone; None where it is none."""
    found = _DATES[order].fullmatch(text)
    if found is None:
        return None
    part: dict[str, Any] = found.groupdict()
    try:
        days = 0
        if order != "time":
            year = int(part["year"])
            year += (1900 if year > 68 else 2000) if len(part["year"]) == 2 else 0
            days = datetime.date(year, int(part["month"]), int(part["day"])).toordinal() - _EPOCH
        if part["hour"] is None:
            return days * 86400.0
        hour, minute = int(part["hour"]), int(part["minute"])
        second = float((part["second"] or "0").replace(",", "."))
        if part["half"]:
            if not 1 <= hour <= 12:
                return None
            hour = hour % 12 + 12 * (part["half"] in "pP")
    except ValueError:  # no such day
        return None
    if hour > 24 or minute > 59 or second >= 61 or (hour == 24 and minute + second):
        return None
    return days * 86400.0 + hour * 3600 + minute * 60 + second
