"""Options that SPANK plugins of a site add to sbatch: how a site file names them, and those of pyxis. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from hybridhpc.readers import Fault, Plain, quoted

PluginOptions = tuple[tuple[str, str], ...]
"""Long names, each with its mark: "" takes no argument, "=" takes one, "=?" may have one, joined by `=`."""
Asked = tuple[tuple[str, str | None], ...]
"""Options that a job asks for, with their arguments."""

PYXIS: PluginOptions = (
    ("container-image", "="), ("container-mounts", "="), ("container-workdir", "="), ("container-name", "="),
    ("container-save", "="), ("container-env", "="), ("container-mount-home", ""), ("no-container-mount-home", ""),
    ("container-remap-root", ""), ("no-container-remap-root", ""), ("container-entrypoint", ""),
    ("no-container-entrypoint", ""), ("container-entrypoint-log", ""), ("container-writable", ""),
    ("container-readonly", ""),
)  # fmt: skip
"""NVIDIA's pyxis, as of its source of 2025; an older one may lack the later of them."""
PLUGINS: Mapping[str, PluginOptions] = {"pyxis": PYXIS}
"""Plugins whose name, in a site file, stands for all their options."""

_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"
_ENTRY = rf"(?:--)?({_NAME})(=\??)?"


def read_plugin_option(text: str) -> PluginOptions:
    """Read `container-image=`, `quick=?`, `no-container-mount-home`, or the name of a known plugin. Raises Fault."""
    if text in PLUGINS:
        return PLUGINS[text]
    found = re.fullmatch(_ENTRY, text)
    if found is None:
        raise Fault(
            f"{quoted(text)} is no option of a plugin",
            "write name= if it takes an argument, name=? if it may have one, name if it has none, or pyxis",
        )
    return ((found[1], found[2] or ""),)


def together(found: tuple[PluginOptions, ...]) -> PluginOptions:
    """Return all options once. Raises Fault for one with two marks."""
    marks: dict[str, str] = {}
    for name, mark in (option for options in found for option in options):
        if marks.setdefault(name, mark) != mark:
            raise Fault(f"{name} stands twice, as {name}{marks[name]} and {name}{mark}", "keep one of them")
    return tuple(marks.items())


def of_any(sites: Iterable[PluginOptions]) -> PluginOptions:
    """Return the options of several sites. One that they have in different ways may have an argument."""
    marks: dict[str, str] = {}
    for name, mark in (option for options in sites for option in options):
        marks[name] = mark if marks.get(name, mark) == mark else "=?"
    return tuple(marks.items())


def readable_options(written: Plain) -> PluginOptions:
    """Return those options that are right, whatever is wrong with others: what else a file says is judged by them."""
    words = [entry for entry in (written if isinstance(written, list) else [written]) if isinstance(entry, str)]
    return of_any(read_plugin_option(word) for word in words if word in PLUGINS or re.fullmatch(_ENTRY, word))


def lacking(known: PluginOptions, asked: Asked) -> Asked:
    """Return what a job asks for, name and argument, and a site with these options does not take."""
    marks = dict(known)
    fits = {name for name, value in asked if name in marks and argument_fault(marks[name], value) is None}
    return tuple(option for option in asked if option[0] not in fits)


def argument_fault(mark: str, value: str | None) -> str | None:
    """Say what is wrong with an argument, or with none; None if nothing is."""
    if mark == "=" and value is None:
        return "needs an argument"
    return "takes no argument" if mark == "" and value is not None else None


def as_listed(asked: Asked) -> PluginOptions:
    """Return what a site file would have to list for a job."""
    return tuple((name, dict(PYXIS).get(name, "" if value is None else "=")) for name, value in asked)


def entries(options: PluginOptions) -> str:
    """Return options as they are written in a site file: `pyxis, quick=?`; `pyxis` stands for all of its own only."""
    whole = set(PYXIS) <= set(options)
    others = (f"{name}{mark}" for name, mark in options if not (whole and (name, mark) in PYXIS))
    return ", ".join((*(("pyxis",) if whole else ()), *others))


def entries_for(asked: Asked) -> str:
    """Return what to write into a site file that lacks what a job asks for: `pyxis` if that has it all."""
    listed = as_listed(asked)
    return "pyxis" if set(listed) <= set(PYXIS) else entries(listed)


def how_to_admit(name: str, value: str | None) -> str:
    """Say what to write if an option that no sbatch has is a plugin's; empty if it can be none's."""
    if not re.fullmatch(_NAME, name):
        return ""
    return f"write plugin_options: [{entries_for(((name, value),))}] into the file of a site whose plugin adds it"
