"""The transport to `here`: what is asked of it is answered inside this process. See docs/decisions/0006."""

from __future__ import annotations

import threading

from hybridhpc.command import Command, CommandResult
from hybridhpc.errors import TransportError
from hybridhpc.here.commands import Answer, answer
from hybridhpc.schedulers.here import COMMAND
from hybridhpc.transports.base import question_environment
from hybridhpc.transports.local import LocalTransport


class InProcess(LocalTransport):
    """Saves a Python process for each command of `here`; files, and any other command, go as they do with `local`."""

    def run(self, command: Command, *, cwd: str | None = None, scrubbed: bool = True) -> CommandResult:
        """See Transport.run. The same words, environment and directory as a process would get.

        A thread that Python waits for before it ends does the work: Ctrl-C does not cut a submission in two.
        """
        if command.argv[: len(COMMAND)] != COMMAND:
            return super().run(command, cwd=cwd, scrubbed=scrubbed)
        base = question_environment(self._env) if scrubbed else self._env
        env = {name: value for name, value in base.items() if name not in command.hidden} | dict(command.env)
        told: list[Answer] = []
        done = threading.Event()

        def work() -> None:
            try:
                told.append(answer(command.argv[len(COMMAND) :], env, cwd))
            except Exception as error:  # as a process would, it answers that it failed
                told.append(Answer(1, complaint=f"{type(error).__name__}: {error}"))
            finally:
                done.set()

        threading.Thread(target=work).start()
        # No join(): interrupted, it takes the thread for ended and nobody waits for it any more (seen in Python 3.11).
        if not done.wait(command.timeout):
            raise TransportError(f"here gave no answer within {command.timeout:g} s", hint="is its disk full or gone?")
        return CommandResult(
            argv=command.argv,
            exit_code=told[0].exit_code,
            stdout=told[0].output.encode(),
            stderr=told[0].complaint.encode(errors="replace"),
        )
