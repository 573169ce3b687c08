"""Standard output and error: what a locale can show, and what is said of words that do not arrive."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from hybridhpc.cli._streams import PLAIN, encoding_for

UTF_8 = "utf-8"


@pytest.mark.parametrize(
    ("env", "encoding"),
    [
        ({}, UTF_8),
        ({"LANG": "en_US.UTF-8"}, UTF_8),
        ({"LANG": "de_DE.utf8@euro"}, UTF_8),
        ({"LC_ALL": "C", "LANG": "en_US.UTF-8"}, "ascii"),
        ({"LC_CTYPE": "POSIX", "LANG": "en_US.UTF-8"}, "ascii"),
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, "ascii"),
        ({"LC_CTYPE": "C.UTF-8"}, UTF_8),
        ({"LANG": "de_DE.ISO-8859-1"}, "ISO-8859-1"),
        ({"LANG": "de_DE.ISO-8859-15@euro"}, "ISO-8859-15"),
        ({"LANG": "en_US"}, "ascii"),
        ({"LANG": "x.hex"}, "ascii"),
        ({"LANG": "C", "PYTHONIOENCODING": "utf-8"}, UTF_8),
    ],
)
def test_the_locale_says_what_can_be_shown(env: dict[str, str], encoding: str) -> None:
    assert encoding_for(UTF_8, env) == encoding


def printed(text: str, **env: str) -> bytes:
    program = f"import sys; from hybridhpc.cli._streams import hold_streams; hold_streams({env!r}); print({text!r})"
    return subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, timeout=20, check=True).stdout


def test_a_pipe_that_refuses_to_wait_is_waited_for() -> None:
    program = "from hybridhpc.cli._streams import hold_streams; hold_streams({}); print('x' * 500_000)"
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    with subprocess.Popen([sys.executable, "-c", program], stdout=theirs) as done, os.fdopen(ours, "rb") as pipe:
        os.close(theirs)
        assert len(pipe.read()) == 500_001
    assert done.returncode == 0


def test_what_a_locale_lacks_is_spelled_in_what_it_has() -> None:
    assert printed("1h–2h · ▒█░ … é", LC_ALL="C") == b"1h-2h . %#- ~ \\xe9\n"
    assert printed("1h–2h é €", LANG="de_DE.ISO-8859-1") == b"1h-2h \xe9 \\u20ac\n"
    assert printed("1h–2h \udcff", LANG="en_US.UTF-8") == "1h–2h \\udcff\n".encode()
    assert all(plain.isascii() for plain in PLAIN.values())
