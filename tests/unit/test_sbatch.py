"""Reading sbatch scripts: words, options, precedence and what routing makes of them, as the real sbatch has it.

What is written here as expected was seen on sbatch 20.11.4, 21.08.5, 22.05.8, 23.11.4, 24.11.5, 25.11.2 and 26.05.5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from hybridhpc.errors import SpecError
from hybridhpc.model import Array, Native
from hybridhpc.spec.read import read_script
from hybridhpc.spec.sbatch import (
    Components,
    SbatchScript,
    is_sbatch_script,
    merge,
    parse_flags,
    parse_script,
    script_position,
)
from hybridhpc.spec.sbatch_options import BY_NAME, RELEASES, Argument, parse_release, spell_release
from hybridhpc.spec.sbatch_routing import RoutingView, routing
from hybridhpc.spec.sbatch_shape import node_count
from hybridhpc.spec.sbatch_values import parse_array, parse_memory, parse_nodes, parse_time, parse_tres_per_task

HEAD = b"#!/bin/bash\n"


def script(*lines: str | bytes, version: str | None = None) -> SbatchScript:
    body = b"".join((line if isinstance(line, bytes) else line.encode()) + b"\n" for line in lines)
    return parse_script(HEAD + body, "/home/me/job.sh", version=version)


def read(*words: str, version: str | None = None) -> dict[str, str | None]:
    """Read a script with these words on its #SBATCH lines; its options by name, the last of each."""
    found = script(*(f"#SBATCH {word}" for word in words), version=version)
    return {option.name: option.value for component in found.components for option in component}


def wrong(*words: str, version: str | None = None) -> str:
    with pytest.raises(SpecError) as raised:
        read(*words, version=version)
    return str(raised.value)


def seen(*words: str, flags: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> RoutingView:
    found = script(*(f"#SBATCH {word}" for word in words))
    merged = merge(found, flags=parse_flags(flags), environment=environment)
    return routing(merged[0], found)


def names(components: Components) -> list[dict[str, str | None]]:
    return [{option.name: option.value for option in component} for component in components]


@pytest.mark.parametrize("words", ["-N4", "-N 4", "--nodes=4", "--nodes 4", "--nodes=' 4'", '-N"4"', '--no"des"=4'])
def test_an_option_is_read_in_every_spelling(words: str) -> None:
    assert parse_nodes(read(words)["nodes"] or "").least == 4


def test_an_equals_sign_behind_a_letter_belongs_to_the_argument() -> None:
    assert "'=4' is no number of nodes" in wrong("-N=4")


def test_several_options_stand_on_one_line_and_letters_are_bundled() -> None:
    assert read("-HN2 --time=10 -J x") == {"hold": None, "nodes": "2", "time": "10", "job-name": "x"}


def test_an_argument_may_stand_on_the_next_line() -> None:
    assert read("--nodes", "4") == {"nodes": "4"}


def test_an_argument_that_looks_like_an_option_is_an_argument() -> None:
    assert read("--comment -N2") == {"comment": "-N2"}


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("-J a#b", "a"),
        ('-J "a#b"', "a#b"),
        ("-J a\\#b", "a#b"),
        ("-J \"a 'b' c\"", "a 'b' c"),
        ("-J 'a \"b\" c'", 'a "b" c'),
        ("-J 'a\\'b'", "a'b"),
        ('-J "a\\nb"', "anb"),
        ("-J a\\\\b", "a\\b"),
        ('-J"a b"c', "a bc"),
        ("-J a\\", "a"),
    ],
)
def test_quotes_backslashes_and_comments_are_cut_as_sbatch_cuts_them(line: str, name: str) -> None:
    assert read(line)["job-name"] == name


def test_a_space_can_be_escaped_from_24_11_on() -> None:
    assert read("-J a\\ b", version="24.11")["job-name"] == "a b"
    assert "'b' is no option" in wrong("-J a\\ b", version="23.11")


def test_an_empty_word_ends_its_line() -> None:
    assert read('-N2 "" -n8', "-c3") == {"nodes": "2", "cpus-per-task": "3"}


def test_an_unmatched_quote_is_refused_with_its_line() -> None:
    assert wrong("-N2", '-J "a').startswith('/home/me/job.sh:3: #SBATCH: sbatch says: Unmatched `"`')


@pytest.mark.parametrize(
    "line", [" #SBATCH -N2", "##SBATCH -N2", "# SBATCH -N2", "#sbatch -N2", "#BSUB -n 2", "#PBS -l nodes=2"]
)
def test_other_comments_are_not_read(line: str) -> None:
    assert script(line).components == ((),)


def test_the_first_command_ends_the_options() -> None:
    found = script("", "  # hi", "#SBATCH -N2", "#PBS -q x", "true", "#SBATCH -n8")
    assert names(found.components) == [{"nodes": "2"}]


def test_bytes_that_are_no_text_disturb_nothing() -> None:
    found = script(b"# \xff\xfe", b"#SBATCH -N2 --comment=\xe9")
    assert names(found.components) == [{"nodes": "2", "comment": "\udce9"}]


def test_pbs_lines_are_noticed_since_sbatch_translates_them() -> None:
    found = script("#SBATCH -N2", "#PBS -l nodes=3")
    assert found.foreign == (3,)
    assert "lines 3: #PBS" in routing(found.components[0], found).approximate[0]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "Batch script is empty!"),
        (b" \n\t\n", "Batch script contains only whitespace!"),
        (b"\0#!/bin/sh\n", "Batch script contains only whitespace!"),
        (b"#SBATCH -N2\n", "This does not look like a batch script (begin it with #!/bin/bash)"),
        (b"\xef\xbb\xbf#!/bin/sh\n", "This does not look like a batch script (save it without a byte order mark)"),
        (b"#!/bin/sh\n\necho \0\n", "job.sh:3: holds a NUL byte"),
        (b"#!/bin/sh\ntrue\r\n", "job.sh:2: sbatch says: Batch script contains DOS line breaks"),
    ],
)
def test_what_sbatch_takes_for_no_script_is_refused(content: bytes, says: str) -> None:
    with pytest.raises(SpecError) as raised:
        parse_script(content, "job.sh")
    assert says in str(raised.value)


def test_an_abbreviation_is_taken_as_long_as_it_is_unambiguous() -> None:
    assert read("--part=x --ntasks-per-n=4") == {"partition": "x", "ntasks-per-node": "4"}
    assert "is ambiguous: --nodefile, --nodelist, --nodes" in wrong("--nod=4")


def test_an_exact_name_wins_over_longer_ones() -> None:
    assert read("--mem=4G --gpus=1 --time=3 --gres=gpu --export=A") == {
        "mem": "4G",
        "gpus": "1",
        "time": "3",
        "gres": "gpu",
        "export": "A",
    }


def test_what_is_ambiguous_depends_on_the_release() -> None:
    assert read("--ext=2:4", version="22.05.8") == {"extra-node-info": "2:4"}
    assert "is ambiguous: --extra, --extra-node-info" in wrong("--ext=2:4", version="23.02")
    assert read("--ext=2:4") == {"extra-node-info": "2:4"}


def test_an_option_of_another_release_is_no_unknown_option() -> None:
    assert "--segment: exists from Slurm 24.05 on; this is 22.05" in wrong("--segment=2", version="22.05.8")
    assert "--power: exists up to Slurm 23.11 only; this is 26.05" in wrong("--power=level", version="26.05")
    assert "does not exist in Slurm 23.11, though before and after" in wrong("--export-file=x", version="23.11")
    assert read("--segment=2 --power=level") == {"segment": "2", "power": "level"}


def test_an_unknown_option_is_answered_with_the_nearest() -> None:
    assert "--job-nme: is no option of sbatch (did you mean --job-name? Else write plugin" in wrong("--job-nme=a")
    assert "-Z: is no option of sbatch" in wrong("-Z4")
    assert "did you mean --nodes?" in wrong("-Znodes=4")


PLUGINS = (("container-image", "="), ("no-container-mount-home", ""), ("quick", "=?"), ("partition-hint", "="))


def plugged(*words: str) -> dict[str, str | None]:
    """Read a script with these words where a site has PLUGINS; seen on 22.05 with a plugin of ours."""
    body = "".join(f"#SBATCH {word}\n" for word in words).encode()
    (options,) = parse_script(HEAD + body, "/home/me/job.sh", plugins=PLUGINS).components
    return {option.name: option.value for option in options}


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("--container-image=a:1", {"container-image": "a:1"}),
        ("--container-image a:1 -N2", {"container-image": "a:1", "nodes": "2"}),
        ("--container-im a:1", {"container-image": "a:1"}),
        ("--no-c", {"no-container-mount-home": None}),
        ("--quick --quick=3 --quie", {"quick": "3", "quiet": None}),
        ("--partition-h=x --partition=gpu", {"partition-hint": "x", "partition": "gpu"}),
        ("--qui", {"quiet": None}),  # there sbatch would say that it is ambiguous, elsewhere it is not
        ("--container a:1 --conti", {"container": "a:1", "contiguous": None}),
    ],
)
def test_an_option_of_a_plugin_is_read_as_sbatch_s_own(words: str, found: dict[str, str | None]) -> None:
    assert plugged(words) == found


def test_a_plugin_s_option_has_an_argument_or_has_none() -> None:
    for words, message in (
        ("--no-container-mount-home=3", "takes no argument"),
        ("--container-image", "needs an argument"),
        ("--container-i a", "is ambiguous: --container-id, --container-image"),
        ("--quick 3", "'3' is no option"),
    ):
        with pytest.raises(SpecError, match=message):
            plugged(words)


def test_where_the_script_stands_is_known_behind_arguments_of_plugins() -> None:
    assert script_position(["--quick", "job.sh"], PLUGINS) == 1
    assert script_position(["--lustre-pool", "fast", "job.sh"], (("lustre-pool", "="),)) == 2
    assert script_position(["--container-mounts", "/a:/b", "job.sh"]) == 2


def test_what_no_site_has_is_told_with_what_to_write() -> None:
    said = wrong("--container-image a:1 --lustre-pool fast --no-container-mount-home", "--zzqqy")
    rest = "into the file of a site whose plugin adds it)"
    assert [line.partition(": ")[2] for line in said.splitlines()] == [
        f"--{name}: is no option of sbatch (write plugin_options: [{entry}] {rest}"
        for name, entry in (
            ("container-image", "pyxis"),
            ("lustre-pool", "lustre-pool="),
            ("no-container-mount-home", "pyxis"),
            ("zzqqy", "zzqqy"),
        )
    ]


def test_what_a_script_asks_of_plugins_is_known_of_all_its_components() -> None:
    content = HEAD + b"#SBATCH --quick\n#SBATCH hetjob\n#SBATCH --container-image=a\n"
    spec = read_script(content, "/j.sh", flags=["--partition-h", "x"], env={}, plugins=PLUGINS)
    assert dict(spec.plugin_options) == {"quick": None, "partition-hint": "x", "container-image": "a"}


def test_all_problems_are_told_at_once_in_their_order() -> None:
    lines = wrong("--job-nme=a -n four", "--time=1h", "-N").splitlines()
    assert [line.partition(": ")[0] for line in lines] == ["/home/me/job.sh:2"] * 2 + ["/home/me/job.sh:3"] + [
        "/home/me/job.sh:4"
    ]


def test_arguments_of_flags_follow_the_release() -> None:
    assert read("--requeue=expedite", version="26.05") == {"requeue": "expedite"}
    assert "takes no argument" in wrong("--requeue=expedite", version="24.11")
    assert "takes no argument" in wrong("--get-user-env=10", version="25.11")
    assert read("--exclusive=topo") == {"exclusive": "topo"}
    assert "exists from Slurm 24.05" in wrong("--exclusive=topo", version="22.05")
    assert "takes no argument" in wrong("--hold=1")


def test_an_optional_argument_is_only_taken_when_joined() -> None:
    assert read("--nice=5 -koff") == {"nice": "5", "no-kill": "off"}
    assert "'5' is no option" in wrong("--nice 5")
    assert "'off' is no option" in wrong("-k off")


def test_a_word_that_is_no_option_ends_them() -> None:
    assert "'four' is no option; sbatch says: Invalid directive" in wrong("-N2 four -n3")
    assert "'-n4' is no option" in wrong("-N2 --", "-n4")
    assert read("-N2 --") == {"nodes": "2"}


def test_two_names_of_one_option_are_one() -> None:
    assert read("--tasks-per-node=2 --cluster=a") == {"ntasks-per-node": "2", "clusters": "a"}


@pytest.mark.parametrize("word", ["hetjob", "packjob", "HetJob"])
def test_a_heterogeneous_script_has_components(word: str) -> None:
    found = script("#SBATCH -N2 -p a -t 5 -A ml", f"#SBATCH {word}", "#SBATCH -n3")
    assert len(found.components) == 2
    assert names(merge(found)) == [
        {"nodes": "2", "partition": "a", "time": "5", "account": "ml"},
        {"time": "5", "account": "ml", "ntasks": "3"},
    ]


def test_the_separator_is_a_word_of_its_own_from_21_08_on() -> None:
    lines = ("#SBATCH -N2", "#SBATCH -J myhetjob -n4")
    assert len(script(*lines, version="22.05").components) == 1
    assert len(script(*lines, version="20.11").components) == 2


def test_words_behind_a_separator_are_not_read_from_21_08_on() -> None:
    lines = ("#SBATCH -N2", "#SBATCH hetjob -n3")
    assert names(script(*lines, version="21.08").components) == [{"nodes": "2"}, {}]
    assert names(script(*lines, version="20.11").components) == [{"nodes": "2"}, {"ntasks": "3"}]


def test_each_component_takes_its_part_of_the_command_line() -> None:
    found = script("#SBATCH -N2", "#SBATCH hetjob", "#SBATCH -N3", "#SBATCH hetjob", "#SBATCH -N4")
    merged = names(merge(found, flags=parse_flags(["-c2", ":", "-c3"])))
    assert [component["cpus-per-task"] for component in merged] == ["2", "3", "3"]
    assert len(merge(script("#SBATCH -N2"), flags=parse_flags(["-n1", ":", "-n2"]))) == 2


def test_the_command_line_wins_over_variables_and_these_over_the_script() -> None:
    found = script("#SBATCH -p a -t 1 -J x")
    environment = {"SBATCH_PARTITION": "b", "SBATCH_TIMELIMIT": "2"}
    (merged,) = merge(found, flags=parse_flags(["--time=3"]), environment=environment)
    assert {option.name: (option.value, option.origin) for option in merged} == {
        "job-name": ("x", "script"),
        "partition": ("b", "environment"),
        "time": ("3", "command line"),
    }


def test_of_two_settings_for_one_thing_the_later_counts() -> None:
    assert names(merge(script("#SBATCH --requeue --no-requeue"))) == [{"no-requeue": None}]
    assert names(merge(script("#SBATCH --no-requeue"), environment={"SBATCH_REQUEUE": "1"})) == [{"requeue": None}]


def test_memory_of_the_environment_yields_to_any_other() -> None:
    found = script("#SBATCH --mem=4G")
    assert names(merge(found, environment={"SBATCH_MEM_PER_CPU": "1G"})) == [{"mem": "4G"}]
    with pytest.raises(SpecError, match="--mem-per-cpu: cannot be combined with --mem"):
        merge(found, flags=parse_flags(["--mem-per-cpu=1G"]))


def test_a_variable_is_read_only_where_sbatch_reads_it() -> None:
    environment = {"SBATCH_OUTPUT": "o", "SBATCH_NODES": "3", "SLURM_NTASKS": "3", "SBATCH_EXCLUSIVE": ""}
    assert names(merge(script(), environment=environment, version="21.08")) == [{"exclusive": None}]
    assert names(merge(script(), environment=environment, version="22.05")) == [{"exclusive": None, "output": "o"}]


def test_a_bad_variable_is_named() -> None:
    with pytest.raises(SpecError, match="environment: SBATCH_TIMELIMIT: '1h' is no Slurm time"):
        merge(script(), environment={"SBATCH_TIMELIMIT": "1h"})
    with pytest.raises(SpecError, match="unset SBATCH_POWER"):
        merge(script(), environment={"SBATCH_POWER": "level"}, version="24.11")


def test_options_that_exclude_each_other_are_refused_where_sbatch_does() -> None:
    found = script("#SBATCH --exclusive -s")
    assert names(merge(found, version="22.05")) == [{"oversubscribe": None}]
    with pytest.raises(SpecError, match="--exclusive: cannot be combined with --oversubscribe"):
        merge(found, version="23.02")
    with pytest.raises(SpecError, match="--gpus-per-socket: needs --sockets-per-node as well"):
        merge(script("#SBATCH --gpus-per-socket=1"))


def test_a_command_line_is_read_up_to_the_script() -> None:
    assert script_position(["-N", "2", "--time=3", "job.sh", "-x"]) == 3
    assert script_position(["-N2", ":", "-n", "3", "job.sh"]) == 4
    assert script_position(["--hold", "-J", "job.sh"]) is None
    with pytest.raises(SpecError, match="command line: --node-count: is no option"):
        parse_flags(["--node-count=3"])


@pytest.mark.parametrize("flag", ["--wrap=hostname", "--help", "-V", "--usage"])
def test_flags_with_which_sbatch_would_not_submit_the_script_are_refused(flag: str) -> None:
    with pytest.raises(SpecError, match=r"cannot be combined with a script|submit nothing"):
        parse_flags([flag])


@pytest.mark.parametrize(
    ("content", "path", "is_script"),
    [
        (b"#!/bin/sh\n", "job", True),
        (b"#SBATCH -N2\n", "job", True),
        (b"# a comment\n#SBATCH -N2\n", "job", True),
        (b"", "job.sbatch", True),
        (b"run: hostname\n", "job", False),
        (b"#!/usr/bin/env hpc\nrun: x\n", "job.yaml", False),
        (b"# run\nrun: x\n", "spec.yml", False),
    ],
)
def test_a_script_is_told_from_a_spec(content: bytes, path: str, is_script: bool) -> None:
    assert is_sbatch_script(content, path) is is_script


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 5400),
        ("90:30", 5460),
        ("0:1", 60),
        ("1:02:03", 3780),
        ("1-2", 93600),
        ("1-", 86400),
        ("1-2:3", 93780),
        ("1-2:3:4", 93840),
        ("0", None),
        ("-1", None),
        ("UNLIMITED", None),
        ("infinite", None),
    ],
)
def test_times_are_rounded_up_to_the_minute_as_sbatch_does(text: str, seconds: int | None) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "1h", "1:", "1:2:3:4", "+4", " 4", "1-2:", "1.5", "-2", "١"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no"):
        parse_time(text)


@pytest.mark.parametrize(
    ("text", "mebibytes"),
    [("4096", 4096), ("512m", 512), ("4G", 4096), ("4gb", 4096), ("1T", 1024**2), ("1K", 1), ("1025K", 2), ("0", 0)],
)
def test_memory_is_in_mebibytes_unless_it_says(text: str, mebibytes: int) -> None:
    assert parse_memory(text) == mebibytes


@pytest.mark.parametrize("text", ["", "4GiB", "1.5G", "4P", "-1", "4 G", "lots"])
def test_what_is_no_memory_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no amount of memory"):
        parse_memory(text)


@pytest.mark.parametrize(
    ("text", "tasks", "highest", "throttle"),
    [
        ("0-15%4", 16, 15, 4),
        ("1,3,5-9:2", 5, 9, None),
        ("[0-3]", 4, 3, None),
        ("1,1,2", 2, 2, None),
        ("1,3%2,5", 3, 5, 2),
        ("1-3%0", 3, 3, None),
        ("%4", 1, 0, 4),
    ],
)
def test_an_array_is_counted(text: str, tasks: int, highest: int, throttle: int | None) -> None:
    indices = parse_array(text)
    assert indices is not None
    assert (indices.tasks, indices.highest, indices.throttle) == (tasks, highest, throttle)


@pytest.mark.timeout(5)
def test_absurd_sizes_are_answered_at_once() -> None:
    assert parse_nodes("1-999999999,3").most == 999_999_999
    assert (parse_array("0-3999999,5-3999999") or pytest.fail()).tasks == 4_000_000
    with pytest.raises(ValueError, match="beyond 4000000"):
        parse_array("0-99999999")
    with pytest.raises(ValueError, match="more tasks than any"):
        parse_array("0-3999999," * 1000)
    assert node_count("a[1-999999999]," * 10_000) == 9_999_999_990_000
    assert "is no number of nodes" in wrong("'--nodes=" + " " * 100_000 + "x'")


def test_an_empty_array_is_none() -> None:
    assert parse_array("") is None
    assert seen("--array=").array is None


@pytest.mark.parametrize("text", ["5-2", "a", "-1", "1-", "0-3:0", "1 2"])
def test_what_is_no_array_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no index or range"):
        parse_array(text)


@pytest.mark.parametrize(
    ("words", "gpus", "total"),
    [
        ("--gres=gpu", ((None, 1),), 1),
        ("--gres=gpu:2", ((None, 2),), 2),
        ("--gres=gpu:h100", (("h100", 1),), 1),
        ("--gres=gpu:h100:2", (("h100", 2),), 2),
        ("--gres=gpu:h100=2", (("h100", 2),), 2),
        ("--gres=gres/gpu:2", ((None, 2),), 2),
        ("--gres='gpu:2(S:0-1)'", ((None, 2),), 2),
        ("--gres=tmp:100G,gpu:a100:4,nvme:1", (("a100", 4),), 4),
        ("--gres=gpu:h100:2,gpu:h100:1", (("h100", 1),), 1),
        ("--gres=gpu:h100:2,gpu:a100:1", (("h100", 2), ("a100", 1)), 3),
        ("--gres=none", (), 0),
        ("--gres=gpu:0", (), 0),
        ("-G4", ((None, 4),), 4),
        ("--gpus=h100:16 -N2", (("h100", 8),), 16),
        ("--gpus=a100:2,h100:4", (("a100", 2), ("h100", 4)), 6),
        ("--gpus=5 -N2", ((None, 3),), 5),
        ("--gpus-per-node=2 -N3", ((None, 2),), 6),
        ("--gpus-per-node=h100:2 --gres=gpu:h100:1", (("h100", 1),), 1),
        ("--gpus-per-task=2 -n4", ((None, 8),), 8),
        ("--gpus-per-task=2 -n4 -N2", ((None, 4),), 8),
        ("--gpus-per-socket=2 --sockets-per-node=2", ((None, 4),), 4),
        ("--tres-per-task=cpu=2,gres/gpu=2 -n2", ((None, 4),), 4),
        ("--tres-per-task=gres:gpu:h100:1 -n2", (("h100", 2),), 2),
        ("-n8 --ntasks-per-gpu=2", ((None, 4),), 4),
    ],
)
def test_gpus_are_counted_in_every_spelling(words: str, gpus: tuple[tuple[str | None, int], ...], total: int) -> None:
    view = seen(words)
    assert (view.gpus, view.total_gpus) == (gpus, total)


def test_what_does_not_divide_is_rounded_up_and_marked() -> None:
    assert seen("--gpus=5 -N2").approximate == ("5 GPUs over 2 nodes",)
    assert seen("-n9 -N2").approximate == ("9 tasks do not divide over 2 nodes",)
    assert seen("--gpus=4 -N2 -n8").approximate == ()


@pytest.mark.parametrize(
    ("words", "nodes", "tasks", "cpus"),
    [
        ("", (1, None), 1, 1),
        ("-N2", (2, 2), 2, 1),
        ("-N2-4", (2, 4), 2, 1),
        ("-N2-4 -n3", (2, 3), 3, 2),
        ("-n2 -N4", (2, 2), 2, 1),
        ("-N0", (1, None), 1, 1),
        ("-n4 -c3", (1, None), 4, 12),
        ("-N2 --ntasks-per-node=4 -c2", (2, 2), 8, 8),
        ("--ntasks-per-node=4", (1, None), 4, 4),
        ("-n9 --ntasks-per-node=4", (3, None), 9, 4),
        ("-N2 -n8 -O", (2, 2), 8, 1),
        ("--mincpus=8 -N2", (2, 2), 2, 8),
        ("-B 2:4 -N2", (2, 2), 16, 8),
        ("-w dgx[1-3],x", (4, 4), 4, 1),
        ("--gpus=4 --gpus-per-node=2", (2, 2), 2, 1),
        ("--gpus=4 --cpus-per-gpu=8", (1, None), 1, 32),
        ("--gpus=4 --gpus-per-task=2", (1, None), 2, 2),
        ("--tres-per-task=cpu=3 -n2", (1, None), 2, 6),
    ],
)
def test_nodes_tasks_and_cpus_follow_slurms_rules(
    words: str, nodes: tuple[int, int | None], tasks: int, cpus: int
) -> None:
    view = seen(words)
    assert ((view.nodes, view.most_nodes), view.tasks, view.cpus) == (nodes, tasks, cpus)


@pytest.mark.parametrize(
    ("words", "memory"),
    [
        ("", None),
        ("--mem=4G", 4096),
        ("--mem=0", None),
        ("--mem-per-cpu=2G -n4 -c2", 16384),
        ("--mem-per-gpu=8G --gres=gpu:3", 24576),
    ],
)
def test_memory_is_counted_per_node(words: str, memory: int | None) -> None:
    assert seen(words).memory == memory


def test_names_a_site_must_have_are_kept() -> None:
    view = seen("-p a,b -A ml -q high -C 'x&y' --reservation=r -L l:2 -w n1 -M c")
    assert view.native == Native(
        partition="a,b",
        account="ml",
        qos="high",
        constraint="x&y",
        reservation="r",
        licenses="l:2",
        nodelist="n1",
        cluster="c",
    )


def test_what_else_matters_is_seen() -> None:
    view = seen("-H -o out -t 10 -W --exclusive=USER", "--array=0-9%2")
    assert (view.hold, view.output, view.waits) == (True, "out", True)
    assert (view.walltime, view.unlimited, view.exclusive) == (600, False, "user")
    assert view.array == Array(text="0-9%2", tasks=10, throttle=2)
    assert [seen(f"-t {word}").unlimited for word in ("0", "UNLIMITED", "infinite", "1")] == [True, True, True, False]
    assert seen("--reboot").exclusive == "exclusive"


def test_the_jobs_name_is_its_scripts_unless_said() -> None:
    assert seen("").name == "job.sh"
    assert seen("", environment={"SBATCH_JOB_NAME": "env"}).name == "env"
    assert seen("", flags=["-J", "flag"], environment={"SBATCH_JOB_NAME": "env"}).name == "flag"


@pytest.mark.parametrize(("hosts", "count"), [("a", 1), ("a[1-3,7],b", 5), ("a[01-10]x[1-2]", 20), ("./file", 0)])
def test_hosts_are_counted(hosts: str, count: int) -> None:
    assert node_count(hosts) == count


@pytest.mark.parametrize("text", ["mem=4", "node=1", "cpu=x"])
def test_what_cannot_be_asked_per_task_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"per task|is no"):
        parse_tres_per_task(text)


@pytest.mark.parametrize(
    ("text", "release"),
    [
        ("22.05.8", "22.05"),
        ("slurm-wlm 24.11.5", "24.11"),
        ("19.05", "20.11"),
        ("27.05.1", "26.05"),
        ("23.05", "23.02"),
    ],
)
def test_a_version_is_read_as_its_release(text: str, release: str) -> None:
    assert spell_release(parse_release(text)) == release


def test_the_table_counts_as_the_real_programs_do() -> None:
    counts = {
        spell_release(release): sum(known.exists_in(release) for known in BY_NAME.values()) for release in RELEASES
    }
    assert {
        release: counts[release] for release in ("20.11", "21.08", "22.05", "23.11", "24.11", "25.11", "26.05")
    } == {
        "20.11": 103,
        "21.08": 105,
        "22.05": 106,
        "23.11": 110,
        "24.11": 114,
        "25.11": 118,
        "26.05": 120,
    }
    assert BY_NAME["requeue"].argument_in(parse_release("25.11")) is Argument.OPTIONAL
