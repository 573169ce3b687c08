"""The moment that --begin names: sbatch(1), 22.05 to 26.05. Pure: what time and zone it is, is told."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, tzinfo

_NOW = re.compile(r"now(?:\s*\+\s*(\d{1,9})\s*([a-z]*))?")
_UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800}
_TIMES = {"midnight": 0, "noon": 12, "elevenses": 11, "fika": 15, "teatime": 16}
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?\s*([ap]m)?")
_DATES = (
    re.compile(r"(?P<y>\d{4})-(?P<m>\d{1,2})-(?P<d>\d{1,2})"),
    re.compile(r"(?P<m>\d{1,2})[/.](?P<d>\d{1,2})(?:[/.](?P<y>\d{2,4}))?"),
    re.compile(r"(?P<m>\d{2})(?P<d>\d{2})(?P<y>\d{2})"),
)


def is_relative(text: str) -> bool:
    """Whether a begin counts from the submission on, and means the same in every zone."""
    return _NOW.fullmatch(text.strip().lower()) is not None


def parse_begin(text: str, now: float, zone: tzinfo) -> float | None:
    """Return the moment in seconds since the epoch, `now` for one that has passed; None if it cannot be read.

    A time of the day that has passed means tomorrow; a date alone begins at midnight.
    """
    words = text.strip().lower()
    if match := _NOW.fullmatch(words):
        unit = _UNITS.get((match[2] or "second").removesuffix("s"))
        return None if unit is None else now + int(match[1] or 0) * unit
    today = datetime.fromtimestamp(now, zone)
    date, rest = _date(words, today)
    seconds = _time_of_day(rest) if rest else 0
    if seconds is None or (date is None and not rest):
        return None
    day = date or today
    try:
        moment = datetime(day.year, day.month, day.day, tzinfo=zone) + timedelta(seconds=seconds)
    except (ValueError, OverflowError):
        return None
    if date is None and moment <= today:
        moment += timedelta(days=1)
    return max(now, moment.timestamp())


def _date(words: str, today: datetime) -> tuple[datetime | None, str]:
    """Return the day that is named, if one is, and what else is."""
    for name, days in (("today", 0), ("tomorrow", 1)):
        if name in words:
            return today + timedelta(days=days), words.replace(name, "").strip()
    for pattern in _DATES:
        if (match := pattern.match(words)) and words[match.end() : match.end() + 1] in ("", "t", " ", "-"):
            year = int(match["y"] or today.year)
            try:
                day = today.replace(year=year + 2000 * (year < 100), month=int(match["m"]), day=int(match["d"]))
            except ValueError:
                return None, ""
            if match["y"] is None and day.date() < today.date():
                day = day.replace(year=day.year + 1)
            return day, words[match.end() :].strip(" t-")
    return None, words


def _time_of_day(words: str) -> int | None:
    """Return a time of the day in seconds after midnight; None if it is none."""
    if words in _TIMES:
        return _TIMES[words] * 3600
    match = _CLOCK.fullmatch(words)
    if match is None:
        return None
    hour, minute, second = int(match[1]), int(match[2]), int(match[3] or 0)
    if match[4]:
        hour = hour % 12 + 12 * (match[4] == "pm")
    return hour * 3600 + minute * 60 + second if hour < 24 and minute < 60 and second < 60 else None
