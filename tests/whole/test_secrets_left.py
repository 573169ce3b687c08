"""A job that is killed cannot remove its secret: whoever learns of its end does, however it ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from hybridhpc.ledger.base import Record
from hybridhpc.model import JobState, JobStatus
from tests.keeper import Keeper, forget_job, lose_node, with_two_sites
from tests.people import Person

VALUE = "xyzzy-plugh-4712"
SMALL = "resources: {cpus: 1, memory: 20MiB}\ntime: 5m\n"
WHOLE = "resources: {cpus: 4, memory: 20MiB}\ntime: 5h\n"
KEYS = "secrets: {TOKEN: secret://env/MY_TOKEN}\nrun: sleep 60\n"


@pytest.fixture
def keeper(person: Person) -> Keeper:
    return with_two_sites(person)


def holders(keeper: Keeper) -> set[Path]:
    """Return the files at the sites that hold the value."""
    found = set()
    for file in (file for site in ("one", "two") for file in (keeper.person.home / site).rglob("*")):
        with suppress(FileNotFoundError, IsADirectoryError):
            if VALUE.encode() in file.read_bytes():
                found.add(file)
    return found


def submit(keeper: Keeper, keys: str) -> str:
    """Submit a job with a secret, from an environment that has it (others' jobs take their environment along)."""
    keeper.person.env["MY_TOKEN"] = VALUE
    return keeper.submit(f"name: held\n{SMALL}{keys}{KEYS}")


def running(keeper: Keeper, keys: str = "") -> str:
    token = submit(keeper, keys)
    keeper.began(token)
    return token


def waiting(keeper: Keeper) -> str:
    """Submit a job that waits at `one`."""
    keeper.running(keeper.submit(f"name: blocker\n{WHOLE}run: sleep 60\n"))
    return submit(keeper, "")


def killed(keeper: Keeper) -> None:
    lose_node(keeper, keeper.record(running(keeper)))


def killed_and_tried_again(keeper: Keeper) -> None:
    lose_node(keeper, keeper.record(token := running(keeper, "retries: {node_fail: 1}\n")))
    assert "submitted" in keeper.run_pass()
    lose_node(keeper, keeper.began(token))


def cancelled_while_it_ran(keeper: Keeper) -> None:
    token = running(keeper)
    keeper.person.hpc("cancel", token)
    assert keeper.ended(token).state is JobState.CANCELLED


def cancelled_while_it_waited(keeper: Keeper) -> None:
    token = waiting(keeper)
    keeper.person.hpc("cancel", token)
    assert keeper.ended(token).state is JobState.CANCELLED


@pytest.mark.parametrize("end", [killed, killed_and_tried_again, cancelled_while_it_ran, cancelled_while_it_waited])
def test_a_question_removes_it(keeper: Keeper, end: Callable[[Keeper], None]) -> None:
    end(keeper)
    keeper.person.hpc("status")
    assert holders(keeper) == set()


def lost(keeper: Keeper) -> None:
    """Its scheduler does not know it any more, and it never began: there is a new attempt, which has the secret."""
    forget_job(keeper, keeper.record(waiting(keeper)))
    keeper.run_pass()
    keeper.later = 121.0
    assert "submitted" in keeper.run_pass()


def moved(keeper: Keeper) -> None:
    record = keeper.record(waiting(keeper))
    root = str(keeper.person.home / "two")
    assert keeper.client.ledger.propose(record, replace(record.plan, site="two"), job_root=root) is not None
    assert {"moved", "submitted"} <= set(keeper.run_pass()), keeper.told


@pytest.mark.parametrize("end", [lost, moved])
def test_an_agent_removes_it_where_the_attempt_that_follows_has_its_own(
    keeper: Keeper, end: Callable[[Keeper], None]
) -> None:
    end(keeper)
    (left,) = holders(keeper)
    assert left.parts[-3] == "2", "the attempt before has none left"


def test_it_goes_before_the_end_is_written_down(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is killed in between asks again, and removes it again."""
    record = keeper.record(running(keeper))

    seen = keeper.client.ledger.seen

    def die(statuses: Sequence[tuple[Record, JobStatus]]) -> None:
        if any(status.state.final for _, status in statuses):
            assert holders(keeper) == set()
            raise KeyboardInterrupt
        seen(statuses)

    monkeypatch.setattr(keeper.client.ledger, "seen", die)
    with pytest.raises(KeyboardInterrupt):
        lose_node(keeper, record)


def test_an_agent_that_cannot_remove_it_says_so_and_does_it_later(keeper: Keeper) -> None:
    token = running(keeper)
    record = keeper.record(token)
    lose_node(keeper, record)
    secret = Path(record.job_dir, ".hpc-secrets", "TOKEN")
    secret.parent.mkdir()
    secret.write_text(VALUE)
    (programs := keeper.person.home / "programs").mkdir()
    (programs / "rm").write_text("#!/bin/sh\necho 'no room' >&2; exit 1\n")
    (programs / "rm").chmod(0o755)
    env = keeper.client.env
    keeper.client.env = {**env, "PATH": f"{programs}:{env['PATH']}"}
    assert keeper.run_pass() == ["trouble"]
    assert keeper.told[-1].text == "a secret of a job that is over cannot be removed: no room"
    keeper.client.env = env
    assert keeper.run_pass() == ["node_fail"]
    assert holders(keeper) == set()
