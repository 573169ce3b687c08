"""Walltime, memory, money and GPU strings: parse and spell. The only module that knows D-HH:MM:SS.

Every parse function raises ValueError with a sentence for the person; the caller adds where it stands.
"""

from __future__ import annotations

import math
import re

from hybridhpc.model import Gpus, Mebibytes, Seconds, UsdPerHour

MAX_WALLTIME = Seconds(366 * 86400)
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_NUMBER = r"[0-9]{1,12}(?:\.[0-9]{1,9})?"
_PARTS = re.compile(rf"({_NUMBER})\s*([smhdw])")
_SLURM_TIME = re.compile(r"(?:([0-9]{1,9})-)?([0-9]{1,9})(?::([0-9]{1,9}))?(?::([0-9]{1,9}))?")
_MEBI = {"": 1, "K": 1 / 1024, "M": 1, "G": 1024, "T": 1024**2, "P": 1024**3}
_MEMORY = re.compile(rf"({_NUMBER})\s*([KMGTP]?)(I?B)?", re.IGNORECASE)
_PRICE = re.compile(rf"({_NUMBER})\s*(?:USD)?\s*(?:/\s*h(?:our)?)?", re.IGNORECASE)
_GPU_KIND = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def parse_walltime(text: str) -> Seconds:
    """Read `12h`, `90m`, `1h30m`, `12:00:00` or `1-12:00:00`; a bare number is refused as ambiguous.

    Raises ValueError if it is no time, zero, or more than a year.
    """
    words = text.strip().lower()
    if _PARTS.sub("", words).strip() == "" and words:
        seconds = sum(float(number) * _UNIT_SECONDS[unit] for number, unit in _PARTS.findall(words))
    elif ":" in words or "-" in words:
        seconds = float(parse_slurm_time(words) or 0)
    elif re.fullmatch(_NUMBER, words):
        raise ValueError(f"{text!r} has no unit; write {text}m for minutes or {text}h for hours")
    else:
        raise ValueError(f"{text!r} is no time; write 90m, 12h, 12:00:00 or 1-12:00:00")
    if not 1 <= seconds <= MAX_WALLTIME:
        raise ValueError(f"{text!r} is out of range; a walltime is at least 1s and at most 366d")
    return Seconds(math.ceil(seconds))


def parse_slurm_time(text: str) -> Seconds | None:
    """Read a time as sbatch does: minutes, MM:SS, HH:MM:SS, D-HH, D-HH:MM, D-HH:MM:SS; None for UNLIMITED.

    sbatch(1) --time, the same from 20.11 to 26.05. Raises ValueError if it is none of these.
    """
    words = text.strip()
    if words.upper() in ("UNLIMITED", "INFINITE", "-1"):
        return None
    match = _SLURM_TIME.fullmatch(words)
    if match is None:
        raise ValueError(f"{text!r} is no Slurm time; write minutes, MM:SS, HH:MM:SS or D-HH:MM:SS")
    days, first, second, third = (None if part is None else int(part) for part in match.groups())
    if days is not None:
        return Seconds(days * 86400 + (first or 0) * 3600 + (second or 0) * 60 + (third or 0))
    if third is not None:
        return Seconds((first or 0) * 3600 + (second or 0) * 60 + third)
    return Seconds((first or 0) * 60 + (second or 0))


def format_walltime(seconds: int) -> str:
    """Spell seconds as Slurm writes them: 12:00:00 or 1-12:00:00."""
    days, rest = divmod(int(seconds), 86400)
    clock = f"{rest // 3600:02}:{rest % 3600 // 60:02}:{rest % 60:02}"
    return f"{days}-{clock}" if days else clock


def spell_time(seconds: int) -> str:
    """Spell seconds as people write them into a spec, exactly: 12h, 7h30m, 1d12h, 90s."""
    parts, rest = [], int(seconds)
    for unit in "dhm":
        count, rest = divmod(rest, _UNIT_SECONDS[unit])
        parts += [f"{count}{unit}"] if count else []
    return "".join([*parts, f"{rest}s"] if rest or not parts else parts)


def format_duration(seconds: float) -> str:
    """Spell seconds for a person, to two units: 45s, 12m, 2h 50m, 3d 4h."""
    whole = round(seconds)
    if whole < 0:
        return "-" + format_duration(-whole)
    if whole < 60:
        return f"{whole}s"
    for unit, size, small, step in (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        if whole >= size:
            major, minor = divmod(whole, size)
            return f"{major}{unit}" + (f" {minor // step}{small}" if minor // step else "")
    raise AssertionError(whole)


def parse_memory(text: str) -> Mebibytes:
    """Read `64GiB`, `64GB`, `64G`, `512M`, `64+` or `64..` (a bare figure is GB, as in SkyPilot and dstack).

    All prefixes are powers of 1024, as Slurm counts. Raises ValueError if it is no amount, zero, or over 1 PiB.
    """
    words = text.strip().removesuffix("+").removesuffix("..")
    match = _MEMORY.fullmatch(words)
    if match is None:
        raise ValueError(f"{text!r} is no amount of memory; write 64GiB, 512MiB or 1.5TiB")
    unit = match.group(2).upper() or ("G" if match.group(3) is None else "B")
    if unit == "B":
        raise ValueError(f"{text!r} is in bytes; write MiB, GiB or TiB")
    amount = math.ceil(float(match.group(1)) * _MEBI[unit])
    if not 1 <= amount <= 1024**3:
        raise ValueError(f"{text!r} is out of range; give 1MiB to 1PiB per node")
    return Mebibytes(amount)


def format_memory(mebibytes: int) -> str:
    """Spell MiB with the largest unit that keeps the figure exact: 4GiB, 1800GiB, 512MiB."""
    for unit, size in (("TiB", 1024**2), ("GiB", 1024)):
        if mebibytes >= size and mebibytes % size == 0:
            return f"{mebibytes // size}{unit}"
    return f"{mebibytes}MiB"


def parse_price(text: str) -> UsdPerHour:
    """Read `30 USD/h`, `30/h` or `30` as dollars (an hour). Raises ValueError if it is no such amount."""
    match = _PRICE.fullmatch(text.strip().removeprefix("$"))
    if match is None or not float(match.group(1)) < 1e9:
        raise ValueError(f"{text!r} is no price; write 30 USD/h")
    return UsdPerHour(float(match.group(1)))


def parse_gpus(text: str) -> Gpus:
    """Read `H100:8`, `H100` (one) or `8` (any kind). Raises ValueError if it is none of these."""
    kind, colon, count = text.strip().rpartition(":")
    if not colon and not count.isdecimal():
        kind, count = count, "1"
    unfit = (colon or kind) and not _GPU_KIND.fullmatch(kind)
    if unfit or not (count.isascii() and count.isdecimal()) or len(count) > 5 or not text.strip():
        raise ValueError(f"{text!r} names no GPUs; write H100:8, H100 or 8")
    return Gpus(kind=kind or None, count=int(count))
