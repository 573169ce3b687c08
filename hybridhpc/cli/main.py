"""`hpc`: finds the verb, and turns every error into a message and its exit code. Verbs are loaded when called."""

from __future__ import annotations

import atexit
import gc
import os
import sys
import threading
from errno import EDQUOT, ENOSPC
from importlib import import_module
from typing import NoReturn

import click

from hybridhpc import __version__
from hybridhpc.cli._streams import hold_streams, loss
from hybridhpc.config import environment
from hybridhpc.errors import EXIT_INTERRUPTED, HpcError, ProblemsError, Unprinted, UsageError
from hybridhpc.interrupts import end_silently, interrupt

VERBS = {
    "init": "Write a first site file and spec; finds a local Slurm by itself.",
    "submit": "Submit a spec or an sbatch script, and print its ref.",
    "plan": "Show where a job would run, when, for how much, and why.",
    "render": "Print the job script, and submit nothing.",
    "status": "Show your jobs.",
    "logs": "Print a job's output.",
    "cancel": "Cancel jobs.",
    "wait": "Wait until jobs are final.",
    "fetch": "Bring a job's outputs here.",
    "sites": "Show every site, its partitions and its queue.",
    "why": "Say in words why a job is where it is.",
    "agent": "Look after your jobs while nobody is typing.",
    "events": "Show what was done with a job, and why.",
    "check": "Find what is wrong with the set-up, and the fix.",
    "completion": "Print the shell's completion script.",
}

HABITS = {
    "sbatch": "submit", "run": "submit", "srun": "submit -f", "squeue": "status", "queue": "status", "jobs": "status",
    "ls": "status", "list": "status", "ps": "status", "sacct": "status --all", "history": "status --all",
    "scancel": "cancel", "kill": "cancel", "stop": "cancel", "sinfo": "sites", "scontrol": "why", "log": "logs",
    "tail": "logs -f", "get": "fetch", "download": "fetch", "doctor": "check", "help": "--help",
}  # fmt: skip
"""What people type who know Slurm, or other programs."""

EXIT_CODES = (
    "0 done; 1 results could not be printed, or a fault in hybridhpc; 2 usage; 3 spec; 4 site file; 5 no site fits; "
    "6 a site cannot be reached; 7 the scheduler refused; 8 ledger; 9 not found; 10 the job did not complete; "
    "11 undecided; 12 check found faults; 130 interrupted"
)


class Verbs(click.Group):
    """The verbs, each imported only when it is called: `hpc --help` stays quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the verbs in the order in which they are met."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a verb."""
        if cmd_name not in VERBS:
            return None
        command: click.Command = import_module(f"hybridhpc.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs without importing them."""
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))
        with formatter.section("Exit codes"):
            formatter.write_text(EXIT_CODES)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Name the nearest verb if there is none of this name."""
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            from difflib import get_close_matches

            near = [HABITS[args[0]]] if args[0] in HABITS else get_close_matches(args[0], VERBS, n=1)
            hint = f"did you mean `hpc {near[0]}`?" if near else "`hpc --help` lists the verbs"
            raise UsageError(f"there is no verb {args[0]!r}", hint=hint)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        """Run the verb. A pipe of ours that broke is a fault: click would end without a word."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise _fault(error) from error


@click.group(
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    invoke_without_command=True,
)
@click.version_option(__version__, prog_name="hpc")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Run research jobs on your own cluster and the clouds.

    Example: hpc submit train.yaml --where auto
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), file=sys.stdout)


def main() -> None:
    """Run `hpc` and exit with the code of the error table (hybridhpc/errors.py)."""
    # Looking for garbage takes a tenth of a short command's time; one that follows a job still collects it.
    gc.set_threshold(100_000)
    hold_streams(environment())
    interrupt()
    exit_code = run(sys.argv[1:])
    end_silently()
    _leave(exit_code)


def _leave(exit_code: int) -> NoReturn:
    """End now. Python would first take itself apart, for a tenth of a short command's time; the kernel frees it anyway.

    What Python would wait for, call and write before it ends is waited for, called and written here.
    """
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    if lost := loss(of_readers=False):
        exit_code = exit_code or lost.exit_code
        _explain(lost, as_json=False)
    sys.stderr.flush()
    os._exit(exit_code)


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code."""
    as_json = "--json" in arguments
    try:
        cli.main(args=arguments, prog_name="hpc", standalone_mode=False)
    except Unprinted:
        return 0  # What was printed since may be lost, too: it is said at the very end.
    except HpcError as error:
        return _explain(error, as_json)
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except click.ClickException as error:
        hint = (
            f"`{error.ctx.command_path} --help` shows how" if isinstance(error, click.UsageError) and error.ctx else ""
        )
        return _explain(UsageError(" ".join(error.format_message().split()), hint=hint), as_json)
    except (KeyboardInterrupt, click.Abort):
        click.echo("hpc: interrupted; jobs that were submitted go on (hpc status, hpc logs -f)", file=sys.stderr)
        return EXIT_INTERRUPTED
    except Exception as error:
        if "HPC_DEBUG" in environment():
            raise
        return _explain(_no_room(error) or _fault(error), as_json)
    return 0


def _no_room(error: Exception) -> HpcError | None:
    """Say that a file system is full; None for anything else."""
    if not isinstance(error, OSError) or error.errno not in (ENOSPC, EDQUOT):
        return None
    where = f" ({error.filename})" if error.filename else ""
    return HpcError(
        f"a file could not be written{where}: {(error.strerror or str(error)).lower()}",
        hint="`df -h ~ . /tmp` shows what is full; make room, then repeat the command",
    )


def _fault(error: Exception) -> HpcError:
    """Turn an error of ours into a message: a person is never shown a traceback they did not ask for."""
    words = f"{type(error).__name__}: {error}"
    return HpcError(f"this is a fault in hybridhpc, not in what you wrote: {words}", hint="HPC_DEBUG=1 shows where")


def _explain(error: HpcError, as_json: bool) -> int:
    from hybridhpc.cli._output import show_json
    from hybridhpc.cli._terminal import clean

    if as_json:
        show_json({"error": error_json(error)})
    for number, line in enumerate(line for text in error.lines() for line in text.split("\n")):
        click.echo(("hpc: " if number == 0 else "     ") + clean(line), file=sys.stderr)
    return error.exit_code


def error_json(error: HpcError) -> dict[str, object]:
    """Return an error as plain values."""
    problems = [
        {"file": p.file, "line": p.line, "key": p.key, "message": p.message, "hint": p.hint}
        for p in (error.problems if isinstance(error, ProblemsError) else ())
    ]
    return {
        "type": type(error).__name__,
        "message": error.message,
        "hint": error.hint,
        "exit_code": error.exit_code,
        "problems": problems,
    }
