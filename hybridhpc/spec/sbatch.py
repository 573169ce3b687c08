"""An sbatch script as it is: its options read as sbatch of Slurm 20.11 to 26.05 reads them. Nothing is changed or run.

What the options ask of a site is told by sbatch_routing; the table of options is sbatch_options.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping, Sequence

from hybridhpc.errors import Problem, SpecError
from hybridhpc.readers import quoted
from hybridhpc.sites.plugins import PYXIS, PluginOptions, of_any
from hybridhpc.spec.sbatch_checks import contradictions, value_problem, without_yielding
from hybridhpc.spec.sbatch_getopt import Option, Origin, absent_from, legible, read_options
from hybridhpc.spec.sbatch_options import (
    BY_NAME,
    ONE_SETTING,
    RELEASES,
    VARIABLES,
    Argument,
    Release,
    parse_release,
)
from hybridhpc.spec.sbatch_plugins import Added, added
from hybridhpc.spec.sbatch_words import Word, read_directives, script_problems
from hybridhpc.values import dataclass

_YAML = (".yaml", ".yml")
_SCRIPT = (".sbatch", ".slurm", ".sh", ".bash", ".job")
_PRINTING = ("autocomplete", "help", "usage", "version")
_PRINTS = "makes sbatch print something, and submit nothing"
_WRAPS = "cannot be combined with a script"

Components = tuple[tuple[Option, ...], ...]
"""The options of each component; an ordinary job has one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SbatchScript:
    """A script, and the options on its #SBATCH lines in their order, duplicates included."""

    path: str
    content: bytes
    components: Components
    args: tuple[str, ...] = ()
    foreign: tuple[int, ...] = ()
    """Lines of #PBS or #BSUB directives. sbatch translates them and lets them override #SBATCH lines."""


def is_sbatch_script(content: bytes, path: str) -> bool:
    """Tell an sbatch script from a YAML spec: by the file's name if that says it, else by #! or an #SBATCH line."""
    name = path.lower()
    if name.endswith(_YAML):
        return False
    head = content.removeprefix(b"\xef\xbb\xbf")
    return name.endswith(_SCRIPT) or head.startswith((b"#!", b"#SBATCH")) or b"\n#SBATCH" in content


def parse_script(
    content: bytes, path: str, *, args: Sequence[str] = (), version: str | None = None, plugins: PluginOptions = ()
) -> SbatchScript:
    """Read a script's options; `version` (`22.05.8`) is the site's Slurm, None accepts what any release would.

    `plugins` are the options that plugins add, at any site.

    Raises SpecError with every problem: no script at all, quotes, unknown or ambiguous options, arguments.
    """
    problems = script_problems(content, path)
    if problems:
        raise SpecError(tuple(problems))
    release = _release(version)
    found = read_directives(content, path, release or RELEASES[-1])
    problems = list(found.problems)
    known = added(plugins)
    components = []
    for words in found.components:
        options, wrong = _all_options(words, path, "script", release, known)
        components.append(tuple(options))
        problems += wrong
    if problems:
        raise SpecError(tuple(sorted(problems, key=lambda problem: problem.line or 0)))
    return SbatchScript(
        path=path, content=content, components=tuple(components), args=tuple(args), foreign=tuple(found.foreign)
    )


def parse_flags(words: Sequence[str], *, version: str | None = None, plugins: PluginOptions = ()) -> Components:
    """Read options of a command line; ` : ` begins the next component. Raises SpecError, its file "command line"."""
    release, known = _release(version), added(plugins)
    components, problems = [], []
    for group in _split(words):
        options, wrong = _all_options(
            [Word(text=word) for word in group], "command line", "command line", release, known
        )
        components.append(tuple(options))
        problems += wrong
    given = [option for component in components for option in component]
    problems += [_problem("command line", option, _PRINTS) for option in given if option.name in _PRINTING]
    problems += [_problem("command line", option, _WRAPS) for option in given if option.name == "wrap"]
    if problems:
        raise SpecError(tuple(problems))
    return tuple(components)


def script_position(words: Sequence[str], plugins: PluginOptions = ()) -> int | None:
    """Return where the script stands in an sbatch command line: the first word that is no option. None: nowhere.

    A lone `:` between components is passed over, as sbatch does. Options of pyxis are passed over with their arguments,
    so that it is they which are complained of where no site has it.
    """
    places = [place for place, word in enumerate(words) if word != ":"]
    *_, used = read_options(
        [Word(text=words[place]) for place in places],
        file="command line",
        origin="command line",
        release=None,
        plugins=added(of_any((plugins, PYXIS))),
    )
    return places[used] if used < len(places) else None


def ends_options(words: Sequence[str], plugins: PluginOptions = ()) -> bool:
    """Tell whether the last word is a `--` behind the options, and not what the one before it takes as its argument."""
    return words[-1:] == ["--"] and script_position([*words, "--version"], plugins) == len(words)


def merge(
    script: SbatchScript,
    *,
    flags: Components = ((),),
    environment: Mapping[str, str] | None = None,
    version: str | None = None,
) -> Components:
    """Return what counts, each option once: the command line over SBATCH_* variables over the script's lines.

    A later component keeps the options that Slurm does not reset between components. Raises SpecError for values of
    variables that sbatch refuses and for options that it refuses together.
    """
    release = _release(version)
    from_environment, problems = _read_environment(environment or {}, release)
    if problems:
        raise SpecError(tuple(problems))
    count = max(len(script.components), len(flags))
    merged: list[tuple[Option, ...]] = []
    before: dict[str, Option] = {}
    for index in range(count):
        own = script.components[index] if index < len(script.components) else ()
        asked = flags[min(index, len(flags) - 1)]
        ordered = (*before.values(), *own, *from_environment, *asked)
        given = without_yielding({option.name: option for option in ordered}, release)
        problems += [_problem(script.path, option, why) for option, why in contradictions(given, release)]
        kept = without_yielding(_last_of_each(ordered), release)
        merged.append(tuple(kept.values()))
        before = {name: option for name, option in kept.items() if name in BY_NAME and BY_NAME[name].kept}
    if problems:
        raise SpecError(tuple(dict.fromkeys(problems)))
    return tuple(merged)


def default_name(path: str) -> str:
    """Return the name a job gets if none is given: its script's base name."""
    return posixpath.basename(path)


def _release(version: str | None) -> Release | None:
    return None if version is None else parse_release(version)


def _split(words: Sequence[str]) -> list[list[str]]:
    groups: list[list[str]] = [[]]
    for word in words:
        if word == ":":
            groups.append([])
        else:
            groups[-1].append(word)
    return groups


def _all_options(
    words: Sequence[Word], file: str, origin: Origin, release: Release | None, plugins: Added
) -> tuple[list[Option], list[Problem]]:
    """Read words that must all be options, and check their arguments."""
    options, problems, used = read_options(words, file=file, origin=origin, release=release, plugins=plugins)
    for word in words[used : used + 1]:
        message = f"{quoted(word.text)} is no option; sbatch says: Invalid directive found in batch script"
        hint = "quote values with spaces, and put # before a comment"
        problems.append(Problem(file=file, line=word.line, key="", message=message, hint=hint))
    problems += [_problem(file, option, why) for option in options if (why := value_problem(option, release))]
    return options, problems


def _problem(file: str, option: Option, why: str) -> Problem:
    key = legible(option.spelling or f"--{option.name}")
    where = file if option.origin == "script" else option.origin
    return Problem(file=where, line=option.line, key=key, message=why)


def _read_environment(environment: Mapping[str, str], release: Release | None) -> tuple[list[Option], list[Problem]]:
    """Read the variables that sbatch of the release reads; an empty one counts as set."""
    options, problems = [], []
    for variable in VARIABLES:
        value = environment.get(variable.name)
        known = BY_NAME[variable.option]
        if value is None or (release is not None and release < variable.since):
            continue
        if release is not None and release > known.until:
            message = f"stands for --{known.name}, which {absent_from(known, release)}; sbatch ends without a word"
            problems.append(
                Problem(
                    file="environment", line=None, key=variable.name, message=message, hint=f"unset {variable.name}"
                )
            )
            continue
        flag = Argument.NONE in (known.argument_in(release), known.argument if release is None else None)
        given = None if flag or (value == "" and known.argument is Argument.OPTIONAL) else value
        options.append(Option(name=known.name, value=given, line=None, origin="environment", spelling=variable.name))
    problems += [_problem("", option, why) for option in options if (why := value_problem(option, release))]
    return options, problems


def _last_of_each(options: Iterable[Option]) -> dict[str, Option]:
    """Keep the last option of each name, and of two names for one setting the later."""
    kept: dict[str, Option] = {}
    for option in options:
        setting = ONE_SETTING.get(option.name, option.name)
        for name in (setting, *(name for name, other in ONE_SETTING.items() if other == setting)):
            kept.pop(name, None)
        kept[option.name] = option
    return kept
