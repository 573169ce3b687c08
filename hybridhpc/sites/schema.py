"""Which keys a site file has and how each is written. What the values become is catalog.py's."""

from __future__ import annotations

import posixpath
import re
from functools import cache
from typing import Any

from hybridhpc.model import Native, Seconds
from hybridhpc.readers import Fault, choice, decimal, matching, printable, quoted, truth
from hybridhpc.schema import Form, Schema, record, several, table, then, word
from hybridhpc.sites.options import Judge, options
from hybridhpc.sites.plugins import read_plugin_option, together
from hybridhpc.units import parse_memory, parse_price, parse_walltime, spell_time

WRITE = {
    "name": "name: dgx",
    "scheduler": "scheduler: slurm",
    "transport": "transport: local",
    "host": "host: login.example.org",
    "ssh_config": "ssh_config: /etc/hybridhpc/ssh_config",
    "renew": "renew: aws sso login",
    "provider": "provider: onprem",
    "slurm_conf": "slurm_conf: /etc/slurm/slurm.conf",
    "version": 'version: "24.11"',
    "job_root": "job_root: $HOME/.hybridhpc/jobs",
    "partitions": "partitions: {gpu: {gpu_price: 2.10 USD/h}}",
    "partitions.*": "gpu: {gpu_price: 2.10 USD/h}",
    "partitions.*.gpu_price": "gpu_price: 2.10 USD/h",
    "partitions.*.node_price": "node_price: 55.04 USD/h",
    "partitions.*.cpu_price": "cpu_price: 0.02 USD/h",
    "partitions.*.purchase": "purchase: spot",
    "partitions.*.boot_delay": "boot_delay: 10m",
    "partitions.*.slurm": "slurm: {exclusive: true}",
    "partitions.*.slurm.*": "exclusive: true",
    "partitions.*.account": "account: ml",
    "partitions.*.qos": "qos: normal",
    "only_listed": "only_listed: true",
    "gpu_price": "gpu_price: 2.10 USD/h",
    "node_price": "node_price: 55.04 USD/h",
    "cpu_price": "cpu_price: 0.02 USD/h",
    "gres": "gres: {H100: nvidia_h100_80gb_hbm3}",
    "gres.*": "H100: nvidia_h100_80gb_hbm3",
    "gpu_memory": "gpu_memory: {H100: 80GiB}",
    "gpu_memory.*": "H100: 80GiB",
    "gpu_speed": "gpu_speed: {H100: 1.0, A100: 0.45}",
    "gpu_speed.*": "H100: 1.0",
    "account": "account: ml",
    "qos": "qos: normal",
    "names": "names: {account: {ml: proj-42}}",
    "names.*": "account: {ml: proj-42}",
    "names.*.*": "ml: proj-42",
    "labels": "labels: [eu]",
    "resident_data": "resident_data: [/data/patients]",
    "slurm": "slurm: {exclusive: true}",
    "slurm.*": "exclusive: true",
    "plugin_options": "plugin_options: [pyxis, container-image=, no-container-mount-home]",
    "preamble": "preamble: module load apptainer",
    "container_runtime": "container_runtime: apptainer",
    "image_dir": "image_dir: /shared/images",
    "fabric": "fabric: none",
    "mpi": "mpi: pmix",
    "poll_interval": "poll_interval: 30s",
    "probe_deadline": "probe_deadline: 10s",
}
"""Every key and how to write it; `*` is a name of the person's own."""

FOREIGN = {
    "price": ("is not known here", "write gpu_price, node_price or cpu_price: 2.10 USD/h"),
    "queue": ("is not known here", "a site's queues are its partitions: write partitions: {gpu: {}}"),
    "queues": ("is not known here", "a site's queues are its partitions: write partitions: {gpu: {}}"),
    "partition": ("is not known here", "write partitions: {gpu: {}}"),
    "user": ("is not known here", "write host: me@login.example.org, or name the user in ~/.ssh/config"),
    "password": ("is not accepted; its text is not shown", "use a key, an agent or ~/.ssh/config"),
    "nodes": ("is asked from the scheduler", "leave it out"),
    "gpus": ("are asked from the scheduler", "leave it out; gres: maps their names"),
}
"""Keys that a person may expect, and what is said about them."""

MAX_TEXT = 100_000
_NAME = matching(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", "name: letters, digits, '.', '_' and '-', at most 64")
_PARTITION = matching(r"[^\s,/:]{1,64}", "name of a partition")
_KIND = matching(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", "GPU name")
_TOKEN = matching(r"[A-Za-z0-9][A-Za-z0-9_./+-]{0,63}", "plain word")
_HOST = matching(r"(?:[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}@)?[A-Za-z0-9][A-Za-z0-9_.:-]{0,254}", "host name")
_LABEL = matching(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", "label: letters, digits, '.', '_' and '-', at most 64")
_VERSION = matching(r"[0-9]{2}\.[0-9]{2}(?:[.-][0-9A-Za-z]+)*", "Slurm version, as in 24.11 or 24.11.5")
BEHIND_SSH = ("ssh", "openssh")
BUILT_IN = {"scheduler": ("slurm", "here"), "transport": ("local", *BEHIND_SSH)}
"""Other packages may add to these."""
PROVIDERS = ("onprem", "aws", "azure", "gcp", "cloud")
"""`cloud` is any other whose nodes are rented."""
FABRICS = ("ib", "ib-dgx-h100", "ib-ndv5", "efa", "tcpx", "tcpxo", "gib", "none")
"""What each sets is script/fabric.py's."""
_MEANT = {
    "auto": "every site",
    "cloud": "every partition whose nodes are bought",
    "onprem": "every partition whose nodes are your own",
}
"""Words of `where` that no label can be."""
_VARIABLE = re.compile(r"\$(?:HOME|USER|\{HOME\}|\{USER\})(?![A-Za-z0-9_])")
_MAX_PORT = 65535


def read_site_name(text: str) -> str:
    """Read the name of a site: it becomes part of refs (`site:jobid`) and of `--where`. Raises Fault."""
    if text == "auto":
        raise Fault(f"'auto' means {_MEANT[text]} and can be no site's name", "write name: dgx")
    return str(_NAME(text))


def _label(text: str) -> str:
    if text == "auto":
        raise Fault(f"'auto' means {_MEANT[text]} and can be no label", "leave it out")
    if text in _MEANT:
        hint = "leave it out, and write provider: aws, or purchase: on-demand below a partition, if it is a cloud's"
        raise Fault(f"{text!r} means {_MEANT[text]}, which provider and purchase say", hint)
    return str(_LABEL(text))


def read_host(text: str) -> str:
    """Read [USER@]HOST[:PORT]. Raises Fault."""
    found = str(_HOST(text))
    port = found.rpartition(":")[2]
    if found.count(":") == 1 and not (port.isdecimal() and 1 <= int(port) <= _MAX_PORT):
        raise Fault(
            f"{quoted(text)} has no port behind its ':'", f"write host: login.example.org:22, up to {_MAX_PORT}"
        )
    return found


def _directory(text: str) -> str:
    """Read a directory of the site, kept as written: only the site knows its own $HOME and $USER."""
    printable(text)
    if not text.startswith(("/", "~/", "$HOME/", "${HOME}/")):
        raise Fault(f"{quoted(text)} is not absolute", "begin it with /, ~/ or $HOME/")
    if "$" in _VARIABLE.sub("", text):
        raise Fault(f"{quoted(text)} holds a variable that is not expanded", "use $HOME or $USER, or write it out")
    return text


def _absolute(text: str) -> str:
    printable(text)
    if not text.startswith("/"):
        raise Fault(f"{quoted(text)} is not absolute")
    return text


def _file_here(text: str) -> str:
    """Read a file of this machine; `~/` is whoever's home it is, and filled in by whoever reads the site file."""
    return printable(text) if text.startswith("~/") else _absolute(text)


def _gres(text: str) -> str:
    return str(_KIND(text.removeprefix("gpu:")))


def _resident(text: str) -> str:
    if posixpath.normpath(_absolute(text)).strip("/") == "":
        raise Fault(f"{quoted(text)} is every directory", "name those whose data may not leave")
    return text


def _within(low: int, high: int) -> Any:  # noqa: ANN401 -- a reader
    bounds = f"write a time from {spell_time(low)} to {spell_time(high)}"

    def read(text: str) -> Seconds:
        if re.fullmatch(r"0*[1-9][0-9]*", text):
            raise Fault(f"{quoted(text)} has no unit", f"write {text}s for seconds or {text}m for minutes")
        seconds = Seconds(0) if re.fullmatch(r"0+\s*[smhdw]?", text) else parse_walltime(text)
        if not low <= seconds <= high:
            raise Fault(f"{quoted(text)} is too {'short' if seconds < low else 'long'}", bounds)
        return seconds

    return read


def _pairs(found: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(found.items())


def _triples(found: dict[str, dict[str, str]]) -> tuple[tuple[str, str, str], ...]:
    return tuple((kind, there, here) for kind, names in found.items() for there, here in names.items())


def _prices() -> dict[str, Schema]:
    return dict.fromkeys(("gpu_price", "node_price", "cpu_price"), word(parse_price))


_OWN = {"account": "write account: ml at the top level", "qos": "write qos: normal at the top level"}
_OWN_BELOW = {"account": "write account: ml below the partition", "qos": "write qos: normal below the partition"}


def _partition(judge: Judge) -> Schema:
    return record(
        **_prices(),
        purchase=word(choice("owned", "on-demand", "spot")),
        boot_delay=word(_within(0, 86400)),
        account=word(_TOKEN),
        qos=word(_TOKEN),
        slurm=options(_OWN_BELOW, judge),
    )


@cache
def site_form(judge: Judge) -> Form:
    """Return the form of a site file; `judge` says which native options there are."""
    return Form(
        record(
            **_prices(),
            name=word(read_site_name),
            scheduler=word(_NAME),
            transport=word(_NAME),
            host=word(read_host),
            ssh_config=word(_file_here),
            renew=word(printable),
            provider=word(choice(*PROVIDERS)),
            slurm_conf=word(_absolute),
            version=word(_VERSION),
            job_root=word(_directory, longest=1000),
            partitions=table(_PARTITION, _partition(judge)),
            only_listed=word(truth),
            gres=then(table(_KIND, word(_gres)), _pairs),
            gpu_memory=then(table(_KIND, word(parse_memory)), _pairs),
            gpu_speed=then(table(_KIND, word(decimal(0.001, 1000))), _pairs),
            account=word(_TOKEN),
            qos=word(_TOKEN),
            names=then(table(choice(*Native.__slots__), table(printable, word(printable))), _triples),
            labels=several(word(_label)),
            resident_data=several(word(_resident, longest=1000)),
            slurm=options(_OWN, judge),
            plugin_options=then(several(word(read_plugin_option)), together),
            preamble=then(several(word(str, longest=MAX_TEXT)), "\n".join),
            container_runtime=word(choice("apptainer", "singularity")),
            image_dir=word(_directory, longest=1000),
            fabric=word(choice(*FABRICS)),
            mpi=word(_TOKEN),
            poll_interval=word(_within(1, 86400)),
            probe_deadline=word(_within(1, 600)),
        ),
        write=WRITE,
        foreign=FOREIGN,
    )
