"""The lab's command line: `python -m tests.lab up`, `down`, `status`, `smoke` and the faults; `make lab` calls it.

Exit status: 0 done, 1 broken, 2 wrong usage, 77 refused (the lab must not or cannot run here; tests skip on it).
"""

import argparse
import sys
from collections.abc import Callable

from tests.lab.install import BrokenError, RefusedError, check_machine, install
from tests.lab.lab import Lab
from tests.lab.place import Place, from_environment, is_made
from tests.lab.up import down, find, up

REFUSED = 77

FAULTS: dict[str, tuple[Callable[[Lab], None], str]] = {
    "freeze": (Lab.freeze, "stop the controller from answering (SIGSTOP)"),
    "thaw": (Lab.thaw, "let a frozen controller go on"),
    "stop-controller": (Lab.stop_controller, "stop slurmctld, its state saved"),
    "kill-controller": (Lab.kill_controller, "kill slurmctld with SIGKILL"),
    "start-controller": (Lab.start_controller, "start slurmctld with its state of before"),
}
NODE_FAULTS: dict[str, tuple[Callable[[Lab, str], None], str]] = {
    "kill-node": (Lab.kill_node, "end a node and its jobs as a power cut does"),
    "report-lost": (Lab.report_lost, "tell the controller that a node is gone"),
    "start-node": (Lab.start_node, "boot a node again"),
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
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.lab", description="A real Slurm cluster on this machine.")
    parser.add_argument("--cluster", default="onprem", help="the cluster that a fault befalls (default: %(default)s)")
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb, (_, text) in {**{name: (None, text) for name, (_, text) in VERBS.items()}, **FAULTS}.items():
        verbs.add_parser(verb, help=text)
    for verb, (_, text) in NODE_FAULTS.items():
        verbs.add_parser(verb, help=text).add_argument("node")
    return parser


def _do(words: argparse.Namespace, place: Place) -> int:
    if words.verb in VERBS:
        return VERBS[words.verb][0](place)
    lab = _existing(place, words.cluster)
    if words.verb in FAULTS:
        FAULTS[words.verb][0](lab)
    else:
        NODE_FAULTS[words.verb][0](lab, words.node)
    return 0


def _existing(place: Place, name: str) -> Lab:
    labs = {lab.cluster.name: lab for lab in find(place)} if is_made(place) else {}
    if name not in labs or not labs[name].cluster.slurm_conf.exists():
        raise BrokenError(f"no cluster {name!r} in {place.directory}: bring the lab up first")
    return labs[name]


def _up(place: Place) -> int:
    for lab in up(place):
        print(f"lab: {lab.cluster.name} is up, {len(lab.cluster.nodes)} nodes ready: {' '.join(lab.cluster.nodes)}")
        print(f"\nIts site file, {lab.site_path}:\n")
        print("".join(f"    {line}\n" for line in lab.site_path.read_text().splitlines()))
        print(f"With hpc, for this shell only:  export HPC_CONFIG_DIR={lab.home}")
        print("or for good:  mkdir -p ~/.config/hybridhpc/sites")
        print(f"              cp {lab.site_path} ~/.config/hybridhpc/sites/")
        print(f"With Slurm's own commands:  export SLURM_CONF={lab.cluster.slurm_conf}")
    print("To take it down: make lab-down")
    return 0


def _install(_: Place) -> int:
    check_machine()
    new = install()
    print(f"lab: installed {' '.join(new)}" if new else "lab: all packages were there")
    return 0


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
        ready = ready and lab.ready()
        for name in ("munged", "slurmctld", *lab.cluster.nodes):
            print(f"{lab.cluster.name:10} {name:10} pid {lab.pid(name) or '-':<8} {states.get(name, '')}".rstrip())
    return 0 if ready else 1


def _smoke(place: Place) -> int:
    lab = _existing(place, "onprem")
    script = 'hostname; echo "CUDA_VISIBLE_DEVICES=$CUDA_VISIBLE_DEVICES"'
    print(lab.run("srun", "--gres=gpu:2", "sh", "-c", script), end="")
    return 0


VERBS: dict[str, tuple[Callable[[Place], int], str]] = {
    "up": (_up, "install what is missing, start the lab, print how to use it; harmless when it is up"),
    "install": (_install, "install what is missing, start nothing"),
    "down": (_down, "stop exactly what the lab started and remove its directory"),
    "status": (_status, "list daemons and nodes; status 0 when all are ready"),
    "smoke": (_smoke, "run one small job with two GPUs and show what it saw"),
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
