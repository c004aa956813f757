"""Dates as files write them, as one text that sorts: ISO 8601 in UTC."""

import re
from datetime import UTC, date, datetime, timedelta

_DATE = re.compile(r"\d{4}-\d{1,2}-\d{1,2}")
_DIGITS = re.compile(r"(\d+)(\.\d*)?")
_CALENDAR = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
_EPOCH = {9: 1, 10: 1, 12: 10**3, 13: 10**3, 16: 10**6, 19: 10**9}
"""Parts of a second that a Unix time of so many digits counts (years 1973 to 2286)."""
_YEARS = range(1900, 2100)
"""Twelve digits that begin with one of these are 202405311830, not milliseconds of the 1970s."""


def iso_date(value: object) -> str:
    """`value` as an ISO 8601 date or UTC date-time that sorts as text. Raises ValueError, OverflowError.

    Accepts Y-M-D (padded or not), ISO date-times, 20240531, 202405311830(59) and Unix times in seconds to nanoseconds,
    whole or with a fraction.
    """
    if isinstance(value, str) and len(value) == 10 and value[4] == value[7] == "-":
        date.fromisoformat(value)  # most dates; raises ValueError
        return value
    text = f"{value:f}" if isinstance(value, float) else str(value).strip()
    if number := _DIGITS.fullmatch(text):
        return _of_digits(number[1], number[2] or "")
    if _DATE.fullmatch(text):
        year, month, day = (int(part) for part in text.split("-"))
        return datetime(year, month, day).strftime("%Y-%m-%d").zfill(10)
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC).replace(tzinfo=None)
    return moment.isoformat(timespec="seconds")


def _of_digits(whole: str, fraction: str) -> str:
    size = len(whole)
    if size in _CALENDAR and (size != 12 or int(whole[:4]) in _YEARS):
        moment = datetime.strptime(whole, _CALENDAR[size])
        return moment.strftime("%Y-%m-%d") if size == 8 else moment.isoformat(timespec="seconds")
    if size not in _EPOCH:
        raise ValueError(f"{whole}{fraction} is neither a date nor a Unix time")
    moment = datetime(1970, 1, 1) + timedelta(seconds=int(whole) // _EPOCH[size])
    return moment.isoformat(timespec="seconds")
