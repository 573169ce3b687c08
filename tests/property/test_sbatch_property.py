"""Laws of reading sbatch scripts: nothing makes a traceback, quoting is undone, getopt's rules are kept."""

from __future__ import annotations

import getopt
import re

from hypothesis import given
from hypothesis import strategies as st

from hybridhpc.errors import SpecError
from hybridhpc.spec.sbatch import merge, parse_flags, parse_script
from hybridhpc.spec.sbatch_getopt import read_options
from hybridhpc.spec.sbatch_options import OPTIONS, RELEASES, VARIABLES, Argument, spell_release
from hybridhpc.spec.sbatch_routing import routing
from hybridhpc.spec.sbatch_words import Word

VERSIONS = st.sampled_from([None, *(spell_release(release) for release in RELEASES)])
NAMES = st.sampled_from(
    [f"--{known.name}" for known in OPTIONS] + [f"-{known.short}" for known in OPTIONS if known.short]
)
VALUES = st.sampled_from(
    ["4", "2-4", "0", "gpu:h100:2,gpu:1", "h100:2", "1-2:3:4", "4G", "0-15%4", "x", "", "cpu=2,gres/gpu=1"]
)
ASKED = st.builds("{}={}".format, NAMES, VALUES) | st.builds("{} {}".format, NAMES, VALUES) | NAMES
PIECES = st.sampled_from([*"-=\"'\\# :,hetjobN4n\t\r\x0b", "--", "nodes", "time", "\u00e9", "\udcff"]) | ASKED
LINES = st.lists(PIECES, max_size=8).map("".join)
TEXT = st.text(st.characters(exclude_characters="\n\0\r", exclude_categories=["Cs"]), max_size=12)


def content(lines: list[str]) -> bytes:
    return b"#!/bin/sh\n" + "".join(f"#SBATCH {line}\n" for line in lines).encode("utf-8", "surrogateescape")


@given(st.binary(max_size=200) | st.lists(LINES | st.just("--\udcff"), max_size=4).map(content), VERSIONS)
def test_no_bytes_make_a_traceback(data: bytes, version: str | None) -> None:
    for whole in (data, b"#!/bin/sh\n#SBATCH " + data):
        try:
            parse_script(whole, "job", version=version)
        except SpecError as error:
            assert str(error).encode()


@given(st.lists(LINES, max_size=4), st.lists(ASKED, max_size=2), VERSIONS, st.data())
def test_what_is_taken_can_be_routed(
    lines: list[str], asked: list[str], version: str | None, data: st.DataObject
) -> None:
    names = data.draw(st.lists(st.sampled_from([variable.name for variable in VARIABLES]), max_size=2))
    environment = {name: data.draw(VALUES) for name in names}
    flags = [word for option in asked for word in option.split(" ")]
    try:
        script = parse_script(content(lines), "job", version=version)
        merged = merge(script, flags=parse_flags(flags, version=version), environment=environment, version=version)
    except SpecError:
        return
    for options in merged:
        view = routing(options, script)
        assert 1 <= view.nodes <= (view.most_nodes or view.nodes)
        assert view.cpus >= 1 <= view.tasks
        assert (view.total_gpus > 0) == bool(view.gpus)


@given(st.lists(TEXT.filter(bool), min_size=1, max_size=4), st.sampled_from("\"'"), VERSIONS)
def test_a_quoted_word_is_read_back_as_it_was(values: list[str], quote: str, version: str | None) -> None:
    def quoted(text: str) -> str:
        return quote + text.replace("\\", "\\\\").replace(quote, "\\" + quote) + quote

    line = " ".join(quoted(f"--comment={value}") for value in values)
    (options,) = parse_script(content([line]), "job", version=version or "26.05").components
    hetjob = re.compile("hetjob|packjob", re.IGNORECASE)
    if version == "20.11" and any(hetjob.search(value) for value in values):
        return
    assert [option.value for option in options] == values


PLAIN = [known for known in OPTIONS if known.argument is not Argument.OPTIONAL and known.changed is None]
IN_22_05 = [known for known in PLAIN if known.exists_in((22, 5)) and not known.means]
WORDS = st.lists(
    st.sampled_from(IN_22_05).flatmap(
        lambda known: st.sampled_from(
            [f"--{known.name}", f"--{known.name}=v", f"-{known.short or 'H'}", "-Hn4", "-HHt", "v"]
        )
    )
    | st.sampled_from(["--nod=4", "--ntasks-per-s=1", "--mem-per", "-Z", "--", "-", "--=", "--zz", "--parsab"]),
    max_size=5,
)


@given(WORDS)
def test_words_are_taken_as_getopt_takes_them(words: list[str]) -> None:
    """Python's own getopt is the judge; options with optional arguments, which it lacks, are left out of the words."""
    known = [each for each in OPTIONS if each.exists_in((22, 5))]
    letters = "".join(each.short + ":" * (each.argument is not Argument.NONE) for each in known if each.short)
    longs = [each.name + "=" * (each.argument is not Argument.NONE) for each in known]
    options, problems, used = read_options(
        [Word(text=word) for word in words], file="f", origin="script", release=(22, 5)
    )
    if any(re.match(r"--(no-k|ex|ni|pr|get)|-k", word) for word in words):
        return
    try:
        expected, rest = getopt.getopt(words, letters, longs)
    except getopt.GetoptError:
        assert problems
        return
    assert not problems
    assert words[used:] == rest
    assert [option.value or "" for option in options] == [value for _, value in expected]


@given(st.lists(ASKED, max_size=3), st.lists(ASKED, max_size=3), VERSIONS)
def test_the_command_line_wins_whatever_it_says(before: list[str], after: list[str], version: str | None) -> None:
    try:
        script = parse_script(content(before), "job", version=version)
        flags = parse_flags([word for option in after for word in option.split(" ")], version=version)
        merged = merge(script, flags=flags, version=version)
    except SpecError:
        return
    last = {option.name: option.value for option in flags[0]}
    for option in merged[0]:
        assert option.name not in last or option.value == last[option.name]
    assert len({option.name for option in merged[0]}) == len(merged[0])


@given(st.lists(LINES, max_size=3), st.binary(max_size=50), VERSIONS)
def test_nothing_behind_the_first_command_counts(lines: list[str], rest: bytes, version: str | None) -> None:
    rest = rest.replace(b"\r", b"").replace(b"\0", b"") + b"\n#SBATCH --no-such-option\n"
    try:
        alone = parse_script(content(lines), "job", version=version).components
    except SpecError:
        return
    assert parse_script(content(lines) + b"true\n" + rest, "job", version=version).components == alone


@given(st.lists(ASKED, max_size=3), st.sampled_from([spell_release(release) for release in RELEASES]))
def test_what_one_release_takes_is_taken_without_a_release(lines: list[str], version: str) -> None:
    try:
        parse_script(content(lines), "job", version=version)
    except SpecError:
        return
    parse_script(content(lines), "job")
