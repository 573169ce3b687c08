"""The lab's command line: `python -m tests.lab up`, `down`, `status` and the faults; `make lab` calls it.

Exit status: 0 done, 1 broken, 2 wrong usage, 77 refused (the lab must not or cannot run here; tests skip on it).
"""

import argparse
import subprocess
import sys
from collections.abc import Callable, Sequence

from tests.lab import trees
from tests.lab.company import NAMES
from tests.lab.install import BrokenError, RefusedError, check_machine, install
from tests.lab.lab import Lab
from tests.lab.place import Place, from_environment, is_made
from tests.lab.smoke import smoke
from tests.lab.up import down, find, up

REFUSED = 77

FAULTS: dict[str, tuple[Callable[[Lab], None], str]] = {
    "freeze": (Lab.freeze, "stop the controller from answering (SIGSTOP)"),
    "thaw": (Lab.thaw, "let a frozen controller go on"),
    "stop-controller": (Lab.stop_controller, "stop slurmctld, its state saved"),
    "kill-controller": (Lab.kill_controller, "kill slurmctld with SIGKILL"),
    "start-controller": (Lab.start_controller, "start slurmctld with its state of before"),
    "drop-ssh": (Lab.drop_ssh, "end sshd and all sessions; what people started there lives on"),
    "restore-ssh": (Lab.restore_ssh, "let sshd run again"),
    "freeze-ssh": (Lab.freeze_ssh, "silence sshd: it accepts, and says nothing"),
    "thaw-ssh": (Lab.thaw_ssh, "let a frozen sshd go on"),
    "mend-link": (Lab.mend_link, "take the slowness of slow-link away"),
    "fill-disk": (Lab.fill_disk, "fill the file system of the homes, where job directories are"),
    "free-disk": (Lab.free_disk, "give the homes their room again"),
    "mend": (Lab.mend, "undo all faults but a stopped controller and lost nodes, which up brings back"),
}
FAULTS_WITH: dict[str, tuple[Callable[[Lab, str], None], str, str]] = {
    "kill-node": (Lab.kill_node, "NODE", "end a node and its jobs as a power cut does"),
    "vanish": (Lab.vanish, "NODE", "take a node away as a cloud does with a spot instance"),
    "report-lost": (Lab.report_lost, "NODE", "tell the controller that a node is gone"),
    "start-node": (Lab.start_node, "NODE", "boot a node again"),
    "fail-boot": (Lab.fail_boot, "NODE|NUMBER", "make the next boot of a node fail, or that many next boots"),
    "boot-delay": (Lab.set_boot_delay, "SECONDS", "set how long every later boot takes"),
    "slow-link": (Lab.slow_link, "MILLISECONDS", "add so much to every round trip to sshd"),
    "power-down": (Lab.power_down, "NODE", "switch an idle node of a cloud off"),
}


def main(argv: list[str]) -> int:
    """Do what the words say and return the exit status."""
    words = _parser().parse_args(argv)
    try:
        return _do(words, from_environment())
    except RefusedError as refused:
        print(f"lab: refused: {refused}", file=sys.stderr)
        return REFUSED
    except BrokenError as broken:
        print(f"lab: {broken}", file=sys.stderr)
    except subprocess.CalledProcessError as failed:
        print(f"lab: {' '.join(failed.cmd)}: {failed.stderr.strip()}", file=sys.stderr)
    except subprocess.TimeoutExpired as late:
        print(f"lab: {' '.join(late.cmd)} did not answer within {late.timeout:g} s; is it frozen?", file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.lab", description="Real Slurm clusters on this machine.")
    parser.add_argument("--cluster", default="onprem", help="the cluster that a fault befalls (default: %(default)s)")
    verbs = parser.add_subparsers(dest="verb", required=True)
    upward = verbs.add_parser("up", help="install what is missing, start clusters, say how to use them; harmless again")
    upward.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; without any, all of them")
    for verb, (_, text) in {**VERBS, **FAULTS}.items():
        verbs.add_parser(verb, help=text)
    for verb, (_, argument, text) in FAULTS_WITH.items():
        verbs.add_parser(verb, help=text).add_argument("argument", metavar=argument)
    return parser


def _do(words: argparse.Namespace, place: Place) -> int:
    if words.verb == "up":
        return _up(place, words.names)
    if words.verb in VERBS:
        return VERBS[words.verb][0](place)
    lab = _existing(place, words.cluster)
    if words.verb in FAULTS:
        FAULTS[words.verb][0](lab)
    else:
        FAULTS_WITH[words.verb][0](lab, words.argument)
    return 0


def _existing(place: Place, name: str) -> Lab:
    labs = {lab.cluster.name: lab for lab in find(place)} if is_made(place) else {}
    if name not in labs:
        raise BrokenError(f"no cluster {name!r} in {place.directory}: bring it up first")
    return labs[name]


def _up(place: Place, names: list[str]) -> int:
    unknown = set(names) - set(NAMES)
    if unknown:
        print(f"lab: there is no cluster {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}", file=sys.stderr)
        return 2
    _prepare(names or NAMES)
    labs = up(place, names or NAMES)
    for lab in labs:
        cluster = lab.cluster
        release = ".".join(f"{part:02}" for part in cluster.release)
        what = ", ".join(f"{partition.name} {partition.group.hostlist}" for partition in cluster.partitions)
        print(f"lab: {cluster.name} is up: Slurm {release}; {what}; ssh -F {place.home}/ssh/config {cluster.ssh_host}")
    print(f"With hpc, for this shell only:  export HPC_CONFIG_DIR={place.home}")
    print(f"  without ssh, on the cluster itself:  export HPC_CONFIG_DIR={place.home}/local")
    print(f"With Slurm's own commands:  export SLURM_CONF={labs[0].cluster.slurm_conf}")
    print("To take it down: make lab-down")
    return 0


def _install(_: Place) -> int:
    _prepare(NAMES)
    print("lab: installed")
    return 0


def _prepare(names: Sequence[str]) -> None:
    """Install what is missing on the machine and in the cache, and say so."""
    check_machine()
    if new := install():
        print(f"lab: installed {' '.join(new)}")
    for line in trees.fetch(names):
        print(f"lab: {line}", flush=True)


def _down(place: Place) -> int:
    print("lab: down, nothing is left" if down(place) else f"lab: there is none in {place.directory}")
    return 0


def _status(place: Place) -> int:
    if not is_made(place):
        print(f"lab: there is none in {place.directory}")
        return 1
    ready = True
    for lab in find(place):
        states = lab.node_states()
        ready = ready and lab.ready() and all(lab.pid(name) for name in lab.cluster.daemons)
        for name in dict.fromkeys((*lab.cluster.daemons, *lab.cluster.nodes)):
            print(f"{lab.cluster.name:10} {name:10} pid {lab.pid(name) or '-':<8} {states.get(name, '')}".rstrip())
    return 0 if ready else 1


def _smoke(place: Place) -> int:
    labs = [lab for lab in find(place) if lab.pid("slurmctld")] if is_made(place) else []
    if not labs:
        raise BrokenError(f"no cluster runs in {place.directory}: bring the lab up first")
    outcomes = smoke(labs)
    good = [outcome for outcome in outcomes if not outcome.fault]
    said = "; ".join(str(outcome) for outcome in outcomes)
    print(f"lab-smoke: {len(good)} of {len(outcomes)} jobs ran where they should: {said}")
    return 0 if len(good) == len(outcomes) else 1


VERBS: dict[str, tuple[Callable[[Place], int], str]] = {
    "install": (_install, "install what is missing, start nothing"),
    "down": (_down, "stop exactly what the lab started and remove its directory"),
    "smoke": (_smoke, "submit with hpc to every running cluster by name and once to auto; status 0 when all is well"),
    "status": (_status, "list daemons and nodes; status 0 when all are ready"),
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
