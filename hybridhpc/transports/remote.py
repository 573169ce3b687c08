"""What the transports to other machines have in common: everything but how bytes get there.

A site needs no Python and nothing of ours: its login shell starts `sh`, which reads a program from standard input.
tempfile takes as long to import as a template to render, and only transfers want it: it is imported where it is used.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import PurePosixPath
from string import Template
from typing import TYPE_CHECKING

from hybridhpc.command import Command, CommandResult, Errand, Folder, StagedFile
from hybridhpc.errors import HpcError, TransportError, Undelivered
from hybridhpc.sites.site import Site
from hybridhpc.transports.base import MAX_OUTPUT, no_directory, not_written
from hybridhpc.transports.errands import Answers, batches, new_mark, pack
from hybridhpc.transports.ssh_faults import LATE, by_hand

if TYPE_CHECKING:
    from hybridhpc.transports.tree import Tree

GRACE = 1.0
"""Seconds that a single command's answer may be under way, beside its own time limit."""
_NOTHING = Command(argv=("true",))
STORE = ".work"
"""Where below job_root a site keeps directories that were shipped, by their content."""
_NONE = 44
"""Exit code of our programs: there is no such file."""
_READ = (
    f'[ -e "$1" ] || exit {_NONE}; [ -f "$1" ] || {{ echo "it is no file" >&2; exit 1; }}; '
    'tail -c "+$2" -- "$1" | head -c "$3"'
)
_LIST = f'cd -- "$1" 2>/dev/null || {{ [ -e "$1" ] || exit {_NONE}; cd -- "$1"; }}; find . ! -name . -prune -print0'
_NO_PROGRAM = ": not found (PATH is "
"""What on_site/errands.sh says of a program that a site lacks."""
_IDLE = 60.0
"""Seconds without a byte after which a transfer is given up."""
_HOMES: dict[tuple[str, str], tuple[str, str]] = {}
"""User and home by host and ssh_config, as told in the first answer: asking for them costs nothing then."""


class RemoteTransport(ABC):
    """See Transport. One batch of errands is one round trip."""

    def __init__(self, site: Site, env: Mapping[str, str]) -> None:
        self._site = site
        self._env = dict(env)
        self._host = site.host or ""

    @abstractmethod
    def _carry(
        self,
        send: Sequence[bytes] | Iterator[bytes],
        hear: Callable[[bytes], bool],
        *,
        within: float,
        idle: bool = False,
        listening: bool = True,
    ) -> HpcError | None:
        """Start BOOTSTRAP at the site, send, and hear what it says until `hear` returns True; then None.

        Else what went wrong: Undelivered if the site certainly did not get all that was to be sent. `within` so many
        seconds, counted anew from every byte if `idle`. `listening`: the site's standard input stays open to the end.
        A Sequence may be sent again where nothing of it has arrived.
        """
        ...

    def run(self, command: Command, *, cwd: str | None = None, scrubbed: bool = True) -> CommandResult:
        """See Transport.run."""
        errand = Errand(command=command, cwd=cwd, scrubbed=scrubbed)
        return _received(self._exchange([errand], command.timeout, GRACE)[0])

    def run_all(self, errands: Sequence[Errand], *, within: float) -> tuple[CommandResult | HpcError, ...]:
        """See Transport.run_all."""
        until = time.monotonic() + within
        answers: list[CommandResult | HpcError] = []
        for batch in batches(errands):
            answers += self._exchange(batch, until - time.monotonic(), 0.0)
        return tuple(answers)

    def _exchange(self, errands: Sequence[Errand], within: float, grace: float) -> Sequence[CommandResult | HpcError]:
        """Do errands in one round trip. Raises nothing: what went wrong is a value."""
        answers = Answers(mark=new_mark(), errands=errands)

        def hear(chunk: bytes) -> bool:
            answers.hear(chunk)
            return answers.done or bool(answers.broken)

        try:
            sent = pack(errands, mark=answers.mark, within=within, slurm_conf=self._site.slurm_conf)
            wrong = self._carry([sent], hear, within=within + grace)
        except HpcError as error:
            return answers.all(error)
        if answers.home is not None:
            _HOMES[self._whose] = (answers.user, answers.home)
        told = answers.all(wrong or TransportError(f"{self._host} left part of its answers out"))
        if answers.broken:
            return told
        return [
            (self._unanswered(errand, answer) if answers.begun else answer)
            if isinstance(answer, HpcError) and answer is wrong
            else self._explained(errand, answer)
            for errand, answer in zip(errands, told, strict=True)
        ]

    def _unanswered(self, errand: Errand, wrong: HpcError) -> HpcError:
        """Tell a site that is not reached from a command that gives no answer there."""
        if not wrong.message.endswith(LATE):
            return wrong
        program = errand.command.argv[0]
        return TransportError(
            f"{self._host} is reached, but {program} gave no answer there in time",
            hint="is the scheduler alive? there `scontrol ping` tells",
        )

    def _explained(self, errand: Errand, answer: CommandResult | HpcError) -> CommandResult | HpcError:
        """Say of what could not be begun at the site where that is, and which key of its file may be wrong."""
        site, cwd = self._site, errand.cwd or ""
        if not isinstance(answer, Undelivered):
            return answer
        if answer.message == f"{cwd}: no such directory":
            return no_directory(site.name, cwd)
        if site.slurm_conf and answer.message == f"slurm_conf {site.slurm_conf} does not exist":
            message, hint = f"{site.place_of('slurm_conf')} {site.slurm_conf} does not exist there", "correct it"
        elif _NO_PROGRAM in answer.message:
            message, looks = answer.message, f"{by_hand(site)} command -v {answer.message.partition(':')[0]}"
            hint = f"`{looks}` finds nothing: set PATH for shells that are not interactive (bash: atop its ~/.bashrc)"
        else:
            wrong = not_written(site.name, answer.message)
            wrong.hint += f": {site.place_of('job_root')} {site.job_root or '~/.hybridhpc/jobs'}"
            return wrong
        is_question = errand.scrubbed and errand.command is not _NOTHING
        return Undelivered(message if is_question else f"{site.name}: {message}", hint=hint)

    @property
    def _whose(self) -> tuple[str, str]:
        return self._host, self._site.ssh_config or ""

    def resolve(self, path: str) -> str:
        """See Transport.resolve. No round trip if the site has answered anything before in this process."""
        if not path.startswith("~") and "$" not in path:
            return str(PurePosixPath(path))
        if self._whose not in _HOMES:
            self.run(_NOTHING)
        user, home = _HOMES[self._whose]
        filled = Template(home + path[1:] if path[:2] in ("~", "~/") else path).safe_substitute(HOME=home, USER=user)
        return str(PurePosixPath(filled))

    def put(self, directory: str, files: Sequence[StagedFile]) -> None:
        """See Transport.put."""
        errand = Errand(command=_NOTHING, folders=(Folder(path=directory, files=tuple(files)),))
        _received(self._exchange([errand], _NOTHING.timeout, GRACE)[0])

    def read(self, path: str, *, offset: int = 0, limit: int = MAX_OUTPUT) -> bytes | None:
        """See Transport.read."""
        told = self._ask(_READ, path, str(offset + 1), str(limit))
        return None if told is None else told.stdout

    def list(self, directory: str) -> tuple[str, ...]:
        """See Transport.list."""
        told = self._ask(_LIST, directory)
        names = told.stdout.split(b"\0")[:-1] if told else []
        return tuple(sorted(name.removeprefix(b"./").decode("utf-8", "surrogateescape") for name in names))

    def _ask(self, program: str, *arguments: str) -> CommandResult | None:
        """Run one of our programs; None if it says that there is no such file. Raises TransportError."""
        told = self.run(Command(argv=("sh", "-c", program, "sh", *arguments)))
        if told.exit_code == _NONE:
            return None
        if not told.ok:
            raise TransportError(f"{arguments[0]}: {told.complaint}")
        return told

    def put_tree(self, source: str, directory: str) -> None:
        """See Transport.put_tree. What the site keeps already is copied there, not sent again."""
        from hybridhpc.transports.tree import Tree, copy_command

        tree = Tree(source)
        try:
            digest = tree.digest()
        except OSError as error:
            raise Undelivered(f"{source} cannot be read: {error}") from error
        store = f"{self.resolve(self._site.job_root or '~/.hybridhpc/jobs')}/{STORE}"
        copied = self.run(copy_command(store, digest, directory, _NONE), scrubbed=False)
        if copied.exit_code == _NONE:
            self._ship(tree, store, digest)
            copied = self.run(copy_command(store, digest, directory, _NONE), scrubbed=False)
        if not copied.ok:
            raise not_written(f"{source} cannot be copied to {directory}", copied.complaint)

    def _ship(self, tree: Tree, store: str, digest: str) -> None:
        import tempfile

        from hybridhpc.transports.tree import Parcel, keeping, pieces

        mark = new_mark()
        with tempfile.TemporaryFile() as file:
            parcel = Parcel(mark, file)
            try:
                tree.pack(file, mark)
            except OSError as error:
                raise Undelivered(f"{error.filename or 'a copy to send'}: {error.strerror or error}") from error
            send = chain([keeping(mark, store, digest)], pieces(file, f"sending workdir to {self._site.name}"))
            wrong = self._carry(send, parcel.hear, within=_IDLE, idle=True, listening=False)
        if parcel.exit_code or not parcel.ended:
            raise not_written(f"{store}: the files were not kept", wrong.message if wrong else parcel.complaint)

    def get(self, path: str, destination: str) -> bool:
        """See Transport.get."""
        import tempfile

        from hybridhpc.transports.tree import Parcel, sending, unpack

        mark = new_mark()
        with tempfile.TemporaryFile() as file:
            parcel = Parcel(mark, file)
            wrong = self._carry([sending(mark, path)], parcel.hear, within=_IDLE, idle=True)
            if wrong:
                raise wrong
            if parcel.exit_code:
                raise TransportError(f"{path} cannot be read: {parcel.complaint}")
            if parcel.word == "none":
                return False
            if parcel.word.startswith("link"):
                raise TransportError(f"{path} is a {parcel.word}", hint="outputs are files and directories")
            try:
                unpack(file, parcel.word, destination)
            except OSError as error:
                raise TransportError(f"{path} cannot be copied to {destination}: {error}") from error
        return True


def _received(answer: CommandResult | HpcError) -> CommandResult:
    if isinstance(answer, HpcError):
        raise answer
    return answer
