"""`hpc` ends without Python taking itself apart, and loses nothing by that."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import atexit, sys, threading, time
from hybridhpc.cli._streams import hold_streams
from hybridhpc.cli.main import _leave

hold_streams({})

def later():
    time.sleep(0.2)
    print("the thread has ended")

atexit.register(lambda: print("called at exit"))
threading.Thread(target=later).start()
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
sys.stdout.write("not flushed, ")
_leave(7)
"""


def leave(**streams: int) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run([sys.executable, "-c", PROGRAM], text=True, timeout=20, check=False, env=env, **streams)


def test_it_waits_calls_and_writes_what_python_would() -> None:
    done = leave(stdout=subprocess.PIPE)
    assert (done.returncode, done.stdout) == (7, "not flushed, the thread has ended\ncalled at exit\n")


def test_what_is_written_last_and_finds_no_room_is_told() -> None:
    with Path("/dev/full").open("w") as full:
        done = leave(stdout=full.fileno(), stderr=subprocess.PIPE)
    assert done.returncode == 7
    assert done.stderr.startswith("hpc: what was printed could not be written: no space left on device\n")


def test_a_reader_that_has_gone_is_no_trouble() -> None:
    gone = subprocess.Popen(["true"], stdin=subprocess.PIPE)
    assert gone.stdin is not None
    gone.wait()
    done = leave(stdout=gone.stdin.fileno(), stderr=subprocess.PIPE)
    gone.stdin.close()
    assert (done.returncode, done.stderr) == (7, "")
