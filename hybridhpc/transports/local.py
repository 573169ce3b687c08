"""The transport to this very machine: processes and files, bounded in time and output.

shutil takes 6 ms to import and is wanted by few submissions: it is imported where it is used.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import selectors
import signal
import stat
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import IO

from hybridhpc.at_once import AtOnce
from hybridhpc.command import Command, CommandResult, Errand, StagedFile
from hybridhpc.errors import HpcError, TransportError, Undelivered
from hybridhpc.ownership import exchangeable
from hybridhpc.shipped import shipped
from hybridhpc.sites.site import Site
from hybridhpc.transports.base import MAX_OUTPUT, no_directory, not_written, question_environment

_CHUNK = 1 << 16
_SIDE_BY_SIDE = 8
"""Errands done at once: a scheduler gains nothing from more."""


class LocalTransport:
    """Runs commands as children of this process, in sessions of their own: Ctrl-C does not cut a submission in two."""

    def __init__(self, site: Site, env: Mapping[str, str]) -> None:
        self._env = dict(env)
        self._name = site.name
        self._slurm_conf = site.slurm_conf
        if site.slurm_conf:
            self._env["SLURM_CONF"] = site.slurm_conf

    def run(self, command: Command, *, cwd: str | None = None, scrubbed: bool = True) -> CommandResult:
        """See Transport.run."""
        env = question_environment(self._env) if scrubbed else self._env
        env = {name: value for name, value in env.items() if name not in command.hidden}
        if self._slurm_conf and not Path(self._slurm_conf).is_file():
            # Slurm's own commands would look for a configuration elsewhere for many seconds.
            raise Undelivered(f"slurm_conf {self._slurm_conf} does not exist", hint="correct it in the site file")
        try:
            process = subprocess.Popen(
                command.argv,
                stdin=subprocess.PIPE if command.stdin else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=cwd,
                env={**env, **dict(command.env)},
                start_new_session=True,
            )
        except OSError as error:
            # Popen names the program, or else the directory that it could not enter.
            if cwd is not None and error.filename == cwd:
                raise no_directory(self._name, cwd) from error
            reason = (error.strerror or str(error)).lower()
            raise Undelivered(f"{command.argv[0]}: {reason}", hint="`hpc check` looks for what is missing") from error
        try:
            return _converse(process, command)
        finally:
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        stream.close()

    def run_all(self, errands: Sequence[Errand], *, within: float) -> tuple[CommandResult | HpcError, ...]:
        """See Transport.run_all: side by side, a bounded number at once."""
        if len(errands) == 1:
            return (self._do(errands[0]),)
        done: dict[int, CommandResult | HpcError] = {}
        waiting = iter(enumerate(errands))

        def work() -> None:
            for number, errand in waiting:
                done[number] = self._do(errand)

        AtOnce({str(number): work for number in range(min(_SIDE_BY_SIDE, len(errands)))}, within).answers()
        alive = "is the scheduler alive? `scontrol ping` tells"
        return tuple(
            done.get(number, TransportError(f"{errand.command.argv[0]} gave no answer within {within:g} s", hint=alive))
            for number, errand in enumerate(errands)
        )

    def _do(self, errand: Errand) -> CommandResult | HpcError:
        """Do one errand; what went wrong is a value, as a thread must give one back."""
        try:
            for folder in errand.folders:
                self.put(folder.path, folder.files)
            return self.run(errand.command, cwd=errand.cwd, scrubbed=errand.scrubbed)
        except HpcError as error:
            return error

    def resolve(self, path: str) -> str:
        """See Transport.resolve."""
        home = self._env.get("HOME") or str(Path("~").expanduser())
        words = {"HOME": home, "USER": self._env.get("USER") or _login_name()}
        filled = Template(home + path[1:] if path[:2] in ("~", "~/") else path).safe_substitute(words)
        return str(Path(filled).absolute())

    def put(self, directory: str, files: Sequence[StagedFile]) -> None:
        """See Transport.put. A file that is there already is replaced in one step."""
        try:
            private_directory(Path(directory))
            for file in files:
                _write(Path(directory) / file.path, file)
        except OSError as error:
            # Our own words about a directory that a stranger could change have no error number.
            words = f"{directory} cannot be made or written to: {error.strerror}" if error.strerror else str(error)
            raise Undelivered(words, hint="is there room, and may you write there?") from error

    def put_tree(self, source: str, directory: str) -> None:
        """See Transport.put_tree."""
        import shutil

        try:
            private_directory(Path(directory).parent)
            taken = set(shipped(Path(source)))
            shutil.copytree(
                source,
                directory,
                symlinks=True,
                dirs_exist_ok=True,
                ignore=lambda folder, names: {name for name in names if Path(folder, name) not in taken},
            )
        except (OSError, shutil.Error) as error:
            raise not_written(f"{source} cannot be copied to {directory}", str(error)) from error

    def get(self, path: str, destination: str) -> bool:
        """See Transport.get."""
        import shutil

        source = Path(path)
        if not source.exists():
            return False
        if source.is_symlink():
            raise TransportError(f"{path} is a link, to {source.resolve()}", hint="outputs are files and directories")
        try:
            if source.is_dir():
                shutil.copytree(source, destination, symlinks=True, dirs_exist_ok=True)
            else:
                Path(destination).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, destination)
        except (OSError, shutil.Error) as error:
            raise TransportError(f"{path} cannot be copied to {destination}: {error}") from error
        return True

    def read(self, path: str, *, offset: int = 0, limit: int = MAX_OUTPUT) -> bytes | None:
        """See Transport.read."""
        try:
            with open(path, "rb", opener=_open_now) as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise TransportError(f"{path} is no file")
                file.seek(offset)
                return file.read(limit)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise TransportError(f"{path}: {error.strerror}") from error

    def list(self, directory: str) -> tuple[str, ...]:
        """See Transport.list."""
        try:
            return tuple(sorted(entry.name for entry in Path(directory).iterdir()))
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise TransportError(f"{directory}: {error.strerror}") from error


def _login_name() -> str:
    """Return the login name, or the number of a user without one, as containers have them."""
    try:
        return getpass.getuser()
    except KeyError:
        return str(os.getuid())


def _open_now(path: str, flags: int) -> int:
    """Open a file; a pipe that a job has put in its place keeps nobody waiting."""
    return os.open(path, flags | os.O_NONBLOCK)


def private_directory(directory: Path) -> None:
    """Make a directory and its missing parents 0700. Raises PermissionError if another user owns or could change it."""
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(mode=0o700, exist_ok=True)
    found = directory.stat()
    if found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o022:
        raise PermissionError(f"{directory} belongs to another user or can be changed by others")
    if words := exchangeable(directory):
        raise PermissionError(words)


def _write(path: Path, file: StagedFile) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.urandom(6).hex()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o700 if file.executable else 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(file.content)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


def _converse(process: subprocess.Popen[bytes], command: Command) -> CommandResult:
    """Feed standard input and collect bounded output until the process ends or its time is up."""
    output = {"stdout": bytearray(), "stderr": bytearray()}
    truncated = False
    deadline = time.monotonic() + command.timeout
    to_send = memoryview(command.stdin)
    with selectors.DefaultSelector() as selector:
        _watch(selector, process)
        while selector.get_map():
            for key, _ in selector.select(max(0.0, deadline - time.monotonic())):
                if key.data == "stdin":
                    to_send = _send(selector, key.fileobj, to_send)
                    continue
                chunk = os.read(key.fd, _CHUNK)
                if not chunk:
                    selector.unregister(key.fileobj)
                room = MAX_OUTPUT - len(output[key.data])
                output[key.data] += chunk[:room]
                truncated = truncated or len(chunk) > room
            if time.monotonic() > deadline:
                _end(process, command)
    try:
        exit_code = process.wait(max(0.1, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        _end(process, command)
    return CommandResult(
        argv=command.argv,
        exit_code=exit_code if exit_code >= 0 else 128 - exit_code,
        stdout=bytes(output["stdout"]),
        stderr=bytes(output["stderr"]),
        truncated=truncated,
    )


def _watch(selector: selectors.BaseSelector, process: subprocess.Popen[bytes]) -> None:
    for name, stream in (("stdout", process.stdout), ("stderr", process.stderr)):
        if stream is not None:
            selector.register(stream, selectors.EVENT_READ, name)
    if process.stdin is not None:
        os.set_blocking(process.stdin.fileno(), False)
        selector.register(process.stdin, selectors.EVENT_WRITE, "stdin")


def _send(selector: selectors.BaseSelector, stream: object, rest: memoryview) -> memoryview:
    pipe: IO[bytes] = stream  # type: ignore[assignment]
    try:
        rest = rest[os.write(pipe.fileno(), rest[:_CHUNK]) :]
    except BlockingIOError:
        return rest
    except BrokenPipeError:
        rest = rest[len(rest) :]
    if not rest:
        selector.unregister(pipe)
        pipe.close()
    return rest


def _end(process: subprocess.Popen[bytes], command: Command) -> None:
    """Kill the command's whole session. Always raises TransportError: how far it came is unknown."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    raise TransportError(
        f"{command.argv[0]} gave no answer within {command.timeout:g} s",
        hint="is the scheduler alive? `hpc sites` asks",
    )
