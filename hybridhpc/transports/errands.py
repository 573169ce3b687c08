"""Errands as the bytes that a site's shell reads, and its answers as values. Pure: who carries them is another's part.

What is sent: the length of the program, the program (on_site/errands.sh, what is to be done, a call), then the contents
of files and standard inputs, then the mark once more. The remote command line is always BOOTSTRAP: bash, tcsh and fish
read it alike, and no value of anybody's is in it.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath

from hybridhpc.command import CommandResult, Errand, Folder
from hybridhpc.errors import HpcError, TransportError, Undelivered
from hybridhpc.script.quote import shell_word, shell_words
from hybridhpc.transports.base import MAX_OUTPUT

BOOTSTRAP = "exec sh -c 'IFS= read -r n && p=$(dd bs=$n count=1 iflag=fullblock 2>/dev/null) && eval \"$p\"'"
"""No backslash, no exclamation mark, no line break: fish, tcsh and sh disagree about them between single quotes."""
SIDE_BY_SIDE = 8
"""Errands done at once at a site: a scheduler gains nothing from more."""
_FIXED = ("LC_ALL=C", "TZ=UTC", "SLURM_TIME_FORMAT=%s")
_BOUND_ERRANDS = 1_000
"""Errands of one round trip: their names are arguments of single commands at the site."""

_SHORT = 1 << 15
"""Bytes of a file that is brought within the program, as a word: a process for each takes longer."""


def new_mark() -> str:
    """Return a word that nobody can guess."""
    return f"HPC-{os.urandom(16).hex()}"


@cache
def _program() -> str:
    """Return errands.sh without its comments."""
    text = (Path(__file__).parent.parent / "on_site" / "errands.sh").read_text("utf-8")
    return re.sub(r"(?m)^ *#.*\n", "", text)


def batches(errands: Sequence[Errand]) -> Iterator[Sequence[Errand]]:
    """Yield the errands in as few groups as one round trip each can carry."""
    for start in range(0, len(errands), _BOUND_ERRANDS):
        yield errands[start : start + _BOUND_ERRANDS]


def pack(errands: Sequence[Errand], *, mark: str, within: float, slurm_conf: str | None = None) -> bytes:
    """Return all that is sent for some errands. Raises Undelivered for what no shell can carry (NUL)."""
    try:
        body, contents = _body(errands, mark, within, slurm_conf)
        program = f"{_program()}\nhpc_errands() {{\n{body}\n}}\nhpc_errands\n".encode()
    except ValueError as error:
        raise Undelivered(f"it cannot be brought to the site: {error}") from error
    return b"".join((b"%d\n" % len(program), program, *contents, mark.encode(), b"\n"))


def _body(errands: Sequence[Errand], mark: str, within: float, slurm_conf: str | None) -> tuple[str, list[bytes]]:
    lines = [f"begin {mark} {MAX_OUTPUT}"]
    lines += ["read_settings"] if any(errand.scrubbed for errand in errands) else []
    lines += ["read_environment"] if not all(errand.scrubbed for errand in errands) else []
    contents: list[bytes] = []
    numbered = list(enumerate(errands))
    if slurm_conf:
        conf = shell_word(slurm_conf)
        refusals = "; ".join(
            f"refuse {number} {shell_word(f'slurm_conf {slurm_conf} does not exist')}" for number, _ in numbered
        )
        lines.append(f"[ -f {conf} ] || {{ {refusals}; }}")
    lines += _files(numbered, contents)
    for number, errand in numbered:
        if errand.command.stdin:
            lines.append(f"stage_input {number} {len(errand.command.stdin)}")
            contents.append(errand.command.stdin)
    lines.append("all_here")
    lines += _finish(numbered)
    workers = min(SIDE_BY_SIDE, len(errands))
    lines.append("work() {\ncase $1 in")
    for worker in range(workers):
        lines.append(f"{worker})")
        lines += [_do(number, errand, within, slurm_conf) for number, errand in numbered[worker::workers]]
        lines.append(";;")
    lines.append(f"esac\n}}\ndo_all {workers}")
    return "\n".join(lines), contents


def _paths(folder: Folder) -> list[str]:
    return [posixpath.join(folder.path, file.path) for file in folder.files]


def _files(numbered: Sequence[tuple[int, Errand]], contents: list[bytes]) -> Iterator[str]:
    """Yield what makes the directories and writes the files; add what they hold to `contents`."""
    asked = [(number, folder) for number, errand in numbered for folder in errand.folders]
    if not asked:
        return
    leaves = dict.fromkeys(folder.path for _, folder in asked)
    below = dict.fromkeys(posixpath.dirname(path) for _, folder in asked for path in _paths(folder))
    wanted = shell_words(dict.fromkeys([*leaves, *below]))
    fresh = shell_words(dict.fromkeys([*map(posixpath.dirname, leaves), *leaves, *below]))
    yield f"make_fresh {fresh} || make_or_take .{os.urandom(6).hex()} {wanted}"
    above = {str(parent) for leaf in leaves for parent in PurePosixPath(leaf).parents}
    yield f"look_above {shell_words(sorted(above))}"
    for number, folder in asked:
        yield f"check_directory {number} {shell_word(folder.path)}"
    first: dict[bytes, str] = {}
    texts: dict[bytes, str] = {}
    for number, folder in asked:
        for file, path in zip(folder.files, _paths(folder), strict=True):
            if _is_short_text(file.content):
                if file.content not in texts:
                    texts[file.content] = f"text_{len(texts)}"
                    yield f"{texts[file.content]}={shell_word(file.content.decode('ascii'))}"
                yield f'write_file {number} {shell_word(path)} "${texts[file.content]}"'
                continue
            if file.content in first:
                yield f"copy_file {number} {shell_word(first[file.content])} {shell_word(path)}"
                continue
            yield f"stage_file {number} {shell_word(path)} {len(file.content)}"
            contents.append(file.content)
            first[file.content] = path


def _is_short_text(content: bytes) -> bool:
    """Whether every shell writes it as it is, and holds it without trouble however many there are."""
    return len(content) <= _SHORT and content.isascii() and b"\0" not in content


def _finish(numbered: Sequence[tuple[int, Errand]]) -> Iterator[str]:
    """Yield what gives the files their modes and names, now that every byte is there."""
    folders = [folder for _, errand in numbered for folder in errand.folders]
    files = [(file, path) for folder in folders for file, path in zip(folder.files, _paths(folder), strict=True)]
    if not files:
        return
    executable = [path for file, path in files if file.executable]
    if executable:
        yield f"settle_files executable {shell_words(executable)}"
    yield f"settle_files durable {shell_words(path for _, path in files)}"
    for number, errand in numbered:
        paths = [path for folder in errand.folders for path in _paths(folder)]
        if paths:
            yield f"name_files {number} {shell_words(paths)}"


def _do(number: int, errand: Errand, within: float, slurm_conf: str | None) -> str:
    command = errand.command
    limit = f"{max(0.1, min(command.timeout, within)):.10g}"
    assignments = [f"{name}={value}" for name, value in command.env]
    if slurm_conf:
        assignments.insert(0, f"SLURM_CONF={slurm_conf}")
    if errand.scrubbed:
        assignments = [*_FIXED, *assignments]
    hidden = f",{','.join(command.hidden)}," if command.hidden else ""
    words = (hidden, errand.cwd or "", command.argv[0], *assignments, *command.argv)
    return f"do_errand {number} {limit} {'question' if errand.scrubbed else 'person'} {shell_words(words)}"


_LONGEST_LINE = 1 << 16
"""Bytes of a line of ours, longer than any there is."""


@dataclass(slots=True)
class Answers:
    """What a site has said so far, read as it comes."""

    mark: str
    errands: Sequence[Errand]
    heard: bytearray = field(default_factory=bytearray)
    done: bool = False
    broken: str = ""
    """Why nothing was begun, in the site's words."""
    home: str | None = None
    user: str = ""
    _answers: dict[int, CommandResult | HpcError] = field(default_factory=dict)
    _parts: dict[str, bytes] = field(default_factory=dict)
    _searched: int = 0

    @property
    def begun(self) -> bool:
        """Whether our program has spoken: what came before it is noise."""
        return self.home is not None or bool(self.broken)

    def hear(self, chunk: bytes) -> None:
        """Take in what came; each answer counts once its end is there."""
        self.heard += chunk
        flag = f"\n{self.mark} ".encode()
        if not self.begun and flag not in self.heard:
            del self.heard[: -len(flag)]
        while True:
            found = self.heard.find(flag, max(0, self._searched - len(flag)))
            end = self.heard.find(b"\n", found + len(flag)) if found >= 0 else -1
            if end < 0:
                self._searched = found if found >= 0 else len(self.heard)
                self._cut()
                return
            self._read(self.heard[found + len(flag) : end].decode("utf-8", "replace"), bytes(self.heard[:found]))
            del self.heard[: end + 1]
            self._searched = 0

    def _cut(self) -> None:
        """Let go of what is beyond any answer, but for its end: a line of ours may begin there."""
        if len(self.heard) > MAX_OUTPUT + 2 * _LONGEST_LINE:
            del self.heard[MAX_OUTPUT + 1 : -_LONGEST_LINE]
            self._searched = min(self._searched, MAX_OUTPUT + 1)

    def _read(self, line: str, before: bytes) -> None:
        """Read one line of ours; `before` is what stands between it and the line before."""
        word, _, rest = line.partition(" ")
        if word == "here":
            self.user, _, self.home = rest.partition(" ")
        elif word == "broken":
            self.broken = rest
        elif word == "done":
            self.done = True
        elif word == "err":
            self._parts["out"] = before
        elif word == "bad":
            self._parts["err"] = before
        elif word == "end":
            number, _, code = rest.partition(" ")
            if re.fullmatch("[0-9]{1,6}", number) and int(number) < len(self.errands):
                self._answers[int(number)] = self._answer(self.errands[int(number)], code, before)

    def _answer(self, errand: Errand, code: str, bad: bytes) -> CommandResult | HpcError:
        argv, out = errand.command.argv, self._parts.get("out", b"")
        if code == "bad":
            return Undelivered(
                " ".join(bad.decode("utf-8", "replace").split()), hint="`hpc check` looks for what is missing"
            )
        if code == "late":
            return too_late(errand)
        if code == "full":
            return TransportError(
                f"{argv[0]}: what it printed found no room at the site (TMPDIR, /tmp)", hint="make room there"
            )
        if not re.fullmatch("[0-9]{1,3}", code):
            return TransportError(f"{argv[0]}: how it ended cannot be read: {code[:80]!r}")
        return CommandResult(
            argv=argv,
            exit_code=int(code),
            stdout=out[:MAX_OUTPUT],
            stderr=self._parts.get("err", b"")[:MAX_OUTPUT],
            truncated=len(out) > MAX_OUTPUT,
        )

    def all(self, otherwise: HpcError) -> tuple[CommandResult | HpcError, ...]:
        """Return an answer for each errand; `otherwise` for those of which nothing was heard."""
        if self.broken:
            otherwise = Undelivered(self.broken, hint="nothing was begun there")
        return tuple(self._answers.get(number, otherwise) for number in range(len(self.errands)))


def too_late(errand: Errand) -> TransportError:
    """Return what is said of a command that was given up."""
    return TransportError(
        f"{errand.command.argv[0]} gave no answer within {errand.command.timeout:g} s",
        hint="is the scheduler alive? `hpc sites` asks",
    )
