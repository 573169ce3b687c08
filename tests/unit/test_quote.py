"""Quoting, judged by the shells that read it."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridhpc.script.quote import assignment, heredoc_end, home_path, sbatch_word, shell_word, shell_words

VALUES = [
    "", " ", "-rf", "a b", "it's", 'say "x"', "$(touch x)", "`touch x`", "${HOME}", "~", "*", "back\\slash", "end\\",
    "two\nlines", "\n", "tab\t", "ünï", "日本", "#no", "a;b&c|d", "!!", "\r", "'\"'\"'", "=", "a=b", "{a,b}",
    "\x01\x7f",
]  # fmt: skip


def read_by(shell: str, words: str) -> list[str]:
    run = subprocess.run([shell, "-c", f"printf '%s\\0' {words}"], capture_output=True, check=True)
    return run.stdout.decode().split("\0")[:-1]


@pytest.mark.parametrize("shell", ["bash", "sh"])
def test_a_shell_reads_back_exactly_what_was_quoted(shell):
    assert read_by(shell, shell_words(VALUES)) == VALUES


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1, max_size=20))
def test_bash_reads_back_any_text(values):
    assert read_by("bash", shell_words(values)) == values


@pytest.mark.parametrize("value", ["a\0b", "\0", "\ud800"])
@pytest.mark.parametrize("quote", [shell_word, sbatch_word, heredoc_end, lambda value: assignment("A", value)])
def test_what_no_shell_can_carry_is_refused(quote, value):
    with pytest.raises(ValueError, match=r"NUL|UTF-8"):
        quote(value)


def test_plain_words_stay_readable():
    assert shell_words(["srun", "--nodes=2", "/data/x_1.sif", "a@b:c,d"]) == "srun --nodes=2 /data/x_1.sif a@b:c,d"


def test_every_variable_bash_knows_arrives_exactly_or_is_refused():
    names = subprocess.run(["bash", "-c", "compgen -v"], capture_output=True, text=True, check=True).stdout.split()
    special = "RANDOM SRANDOM SECONDS LINENO FUNCNAME PIPESTATUS COPROC REPLY OPTARG OPTIND PS4 SHLVL PWD OLDPWD IFS"
    wrong = []
    for name in {*names, *special.split()} - {"BASH_ENV"}:
        try:
            line = assignment(name, "x y")
        except ValueError:
            continue
        got = subprocess.run(["bash", "-c", f"export {line}; exec /usr/bin/env -0"], capture_output=True, text=True)
        if f"{name}=x y" not in got.stdout.split("\0"):
            wrong.append(name)
    assert wrong == []


@pytest.mark.parametrize("name", ["", "1A", "A-B", "A B", "A=B", "A\n", "É", "$(x)", "UID", "SHELLOPTS", "HPC_JOB_DIR"])
def test_a_name_that_cannot_be_set_is_refused(name):
    with pytest.raises(ValueError, match=r"no name|belongs to bash|own"):
        assignment(name, "x")


def test_a_home_directory_is_left_to_the_node():
    assert home_path("~/my images") == "\"$HOME\"/'my images'"
    assert home_path("$HOME/i") == '"$HOME"/i'
    assert home_path("/a/$(x)") == "'/a/$(x)'"


def tokens(line: str) -> list[str]:
    """Read an #SBATCH line as sbatch does (opt.c, _get_argument: a backslash escapes even between single quotes)."""
    found, word, quote, escaped, begun = [], "", "", False, False
    for character in line + "\n":
        if escaped or (quote and character not in (quote, "\\")):
            word, escaped = word + character, False
        elif character == "\\":
            escaped = True
        elif quote:
            quote = ""
        elif character in "\"'":
            quote = character
        elif character == "#" or character.isspace():
            found += [word] if begun else []
            word, begun = "", False
            if character == "#":
                return found
            continue
        else:
            word += character
        begun = True
    return found


@settings(deadline=None)
@given(st.text(st.characters(exclude_characters="\0\n", exclude_categories=["Cs"])))
def test_an_option_comes_back_from_an_sbatch_line(value):
    assert tokens(f"{sbatch_word('--comment=' + value)} --nodes=1") == ["--comment=" + value, "--nodes=1"]


def test_a_line_break_cannot_stand_on_an_sbatch_line():
    with pytest.raises(ValueError, match="--job-name has a line break"):
        sbatch_word("--job-name=two\nlines")


@pytest.mark.parametrize("text", ["", "HPC_END", "HPC_END\nHPC_END_\ntouch x", "x HPC_END__"])
def test_a_heredoc_ends_with_a_word_that_its_text_lacks(text):
    end = heredoc_end(text)
    script = f"cat <<'{end}'\n{text}\n{end}\n"
    assert subprocess.run(["bash", "-c", script], capture_output=True, text=True).stdout == text + "\n"
