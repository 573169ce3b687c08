"""A workdir lies at a site once per content, no job can damage it, and what comes back stays where it belongs."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hybridhpc.config import environment
from hybridhpc.errors import TransportError, Undelivered
from hybridhpc.sites.site import Site
from hybridhpc.transports.base import Transport
from hybridhpc.transports.local import LocalTransport
from hybridhpc.transports.tree import copy_command, pieces, unpack_tree
from tests.loopback import Loopback


@pytest.fixture
def code(tmp_path: Path) -> Path:
    code = tmp_path / "code"
    (code / "deep" / "data").mkdir(parents=True)
    (code / "run.sh").write_text("#!/bin/sh\n")
    (code / "run.sh").chmod(0o755)
    (code / "deep" / "a.bin").write_bytes(bytes(range(256)) * 1000)
    (code / "deep" / "data" / "huge").write_text("x")
    (code / "deep" / "data" / "kept").write_text("x")
    (code / "link").symlink_to("run.sh")
    (code / ".git").mkdir()
    (code / ".hpcignore").write_text("# data\ndeep/data/*\n!kept\n*.log\n")
    (code / "a.log").write_text("x")
    return code


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


SHIPPED = {".hpcignore", "deep", "deep/a.bin", "deep/data", "deep/data/kept", "link", "run.sh"}


def test_a_tree_is_sent_once_per_content(
    server: Loopback, reach: Callable[..., Transport], tmp_path: Path, code: Path
) -> None:
    transport = reach(server, job_root=str(tmp_path / "jobs"))
    store = tmp_path / "jobs" / ".work"
    for job in ("1", "2"):
        transport.put_tree(str(code), str(tmp_path / "jobs" / job / "work"))
        work = tmp_path / "jobs" / job / "work"
        assert names(work) == SHIPPED
        assert (work / "run.sh").stat().st_mode & 0o777 == 0o700
        assert (work / "link").is_symlink()
        (work / "deep" / "a.bin").write_bytes(b"damaged")
    (kept,) = store.iterdir()
    assert (kept / "deep" / "a.bin").read_bytes() == (code / "deep" / "a.bin").read_bytes()
    (code / "run.sh").write_text("#!/bin/sh\nexit 1\n")
    transport.put_tree(str(code), str(tmp_path / "jobs" / "3" / "work"))
    assert len(list(store.iterdir())) == 2


def aged(path: Path, days: float) -> Path:
    path.mkdir(exist_ok=True, parents=True)
    (path / "file").write_text("x")
    os.utime(path, times=(time.time() - days * 86400,) * 2)
    return path


def test_of_a_full_disk_is_said_that_and_where_in_one_line_and_the_rest_is_kept(
    server: Loopback, reach: Callable[..., Transport], full: Path, code: Path
) -> None:
    for number in range(30):
        (code / f"data-{number}").write_bytes(b"x" * 40_000)
    local = LocalTransport(Site(name="near", file=None, scheduler="slurm", transport="local"), environment())
    for transport in (reach(server, job_root=str(full)), local):
        with pytest.raises(Undelivered) as told:
            transport.put_tree(str(code), str(full / "1" / "work"))
        assert str(full) in told.value.message and told.value.message.endswith(": its disk is full")
        assert len(told.value.message) < 400
        assert told.value.evidence.count("No space left on device") > 1


def test_what_nobody_used_for_days_is_given_up_in_two_steps(
    server: Loopback, reach: Callable[..., Transport], tmp_path: Path, code: Path
) -> None:
    transport = reach(server, job_root=str(tmp_path / "jobs"))
    store = tmp_path / "jobs" / ".work"
    transport.put_tree(str(code), str(tmp_path / "jobs" / "1" / "work"))
    (used,) = store.iterdir()
    os.utime(used, times=(0, 0))
    transport.put_tree(str(code), str(tmp_path / "jobs" / "2" / "work"))
    fresh, unused = aged(store / ("a" * 64), 9.5), aged(store / ("b" * 64), 11)
    away, just_away = aged(store / ".old.c.1", 0.1), aged(store / ".old.d.1", 0.01)
    cut, under_way = aged(store / ".new.e", 3), aged(store / ".new.f", 0.5)
    (code / "run.sh").write_text("#!/bin/sh\nexit 2\n")
    transport.put_tree(str(code), str(tmp_path / "jobs" / "3" / "work"))
    end = time.monotonic() + 20
    while (away.exists() or cut.exists() or unused.exists()) and time.monotonic() < end:
        time.sleep(0.02)
    assert not (away.exists() or cut.exists() or unused.exists())
    assert all(path.exists() for path in (used, fresh, just_away, under_way))
    (renamed,) = store.glob(f".old.{unused.name}.*")
    assert time.time() - renamed.stat().st_mtime < 60


def test_a_copy_under_way_survives_the_first_step(tmp_path: Path) -> None:
    """While cp runs, what it copies from gets another name."""
    kept = aged(tmp_path / "store" / "digest", 11)
    program = tmp_path / "bin" / "cp"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nmv {kept} {kept}.old 2>/dev/null\nexec {shutil.which("cp")} "$@"\n')
    program.chmod(0o700)
    command = copy_command(str(kept.parent), kept.name, str(tmp_path / "job" / "work"), 44)
    env = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"}
    (tmp_path / "job").mkdir(mode=0o700)
    subprocess.run(command.argv, env=env, check=True)
    assert not kept.exists()
    assert (tmp_path / "job" / "work" / "file").read_text() == "x"
    assert subprocess.run(command.argv, check=False).returncode == 44


def test_nothing_that_comes_back_leads_out_of_its_directory(tmp_path: Path) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name in ("../out", "/tmp/hpc-out", "./good"):
            member = tarfile.TarInfo(name)
            member.size = 3
            archive.addfile(member, io.BytesIO(b"abc"))
        link = tarfile.TarInfo("./shadow")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/shadow"
        archive.addfile(link)
        device = tarfile.TarInfo("./device")
        device.type = tarfile.CHRTYPE
        archive.addfile(device)
    file.seek(0)
    with pytest.raises(TransportError, match="shadow"):
        unpack_tree(file, str(tmp_path / "back"))
    assert names(tmp_path / "back") - {"tmp", "tmp/hpc-out"} == {"good"}
    assert not (tmp_path / "out").exists() and not Path("/tmp/hpc-out").exists()


def test_how_far_a_large_tree_is_is_shown_once_per_mebibyte(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    shown = Terminal()
    monkeypatch.setattr("sys.stderr", shown)
    content = bytes((20 << 20) + 5)
    assert b"".join(pieces(io.BytesIO(content), "sending")) == content
    lines = shown.getvalue().split("\r")[1:]
    assert lines == [*(f"sending: {done} of 20 MiB" for done in range(1, 21)), "sending: 20 of 20 MiB\n"]
