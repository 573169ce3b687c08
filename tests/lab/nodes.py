"""A cluster's nodes: how they are, and what can befall them."""

from tests.lab import processes
from tests.lab.install import BrokenError
from tests.lab.machine_files import NAMESPACES
from tests.lab.running import Running
from tests.lab.slurm_files import NODE_CONF, RESUME_TIMEOUT

WORKING = {"idle", "mixed", "allocated", "completing"}
# What sinfo appends to the state of a node that is off, coming or going; * for one that does not answer is not here.
POWER = "~#%"
LOST = ("down", "drain")
BOOT_DELAY = "3"


class Nodes(Running):
    """The part of a Lab that is its nodes."""

    __slots__ = ()

    def node_states(self) -> dict[str, str]:
        """Each node's state in sinfo's words; empty when the controller does not answer."""
        answer = self.run("sinfo", "-h", "-N", "-o", "%N %T", check=False)
        return dict(line.split() for line in answer.splitlines())

    def ready(self) -> bool:
        """Whether every node answers and can take jobs; in a cloud, whether it could be booted."""
        states = self.node_states()
        marks = POWER if self.cluster.cloud else ""
        return set(states) == set(self.cluster.nodes) and {state.rstrip(marks) for state in states.values()} <= WORKING

    def kill_node(self, name: str) -> None:
        """End a node as a power cut does: its slurmd and all its jobs vanish at once, nobody is told.

        The controller notices by itself after some 17 s; report_lost tells it at once.
        """
        processes.kill([self.record(self._known(name))])

    def report_lost(self, name: str, reason: str = "lost") -> None:
        """Tell the controller that a node is gone, as a cloud's agent does: its jobs are requeued at once."""
        self.run("scontrol", "update", f"nodename={self._known(name)}", "state=down", f"reason={reason}")

    def vanish(self, name: str) -> None:
        """Take a node away as a cloud does with a spot instance: it is gone, and the cloud's agent reports it.

        A CLOUD node returns to idle~ by itself, after SuspendTime and SuspendTimeout.
        """
        self.kill_node(name)
        self.report_lost(name, "SpotInterruption")

    def start_node(self, name: str) -> None:
        """Boot a node unless it runs; the controller takes it back when it registers."""
        slurmd = ("slurmd", "-D", "-b", "-N", self._known(name), "-f", str(self.cluster.slurm_conf))
        self.start(name, (*NAMESPACES, *self.as_machine(NODE_CONF, name), *slurmd))

    def take_back(self) -> None:
        """Tell the controller to use nodes again that were set down or drained.

        A node of a cloud that is gone is switched off for that: resumed, it would be waited for and set down again.
        """
        lost = {node: state for node, state in self.node_states().items() if state.startswith(LOST)}
        gone = [
            node for node, state in lost.items() if self.cluster.cloud and self.pid(node) is None and "~" not in state
        ]
        for nodes, state in ((gone, "power_down_force"), ([*lost.keys() - set(gone)], "resume")):
            if nodes:
                self.run("scontrol", "update", f"nodename={','.join(nodes)}", f"state={state}", check=False)

    def fail_boot(self, what: str) -> None:
        """Make the next boot of a node fail, or as many next boots as the number says: they never register.

        The controller gives up after ResumeTimeout, requeues the job and marks the node down~.
        """
        self._cloud("boots that fail")
        if what.isdecimal():
            self.control("fail-next").write_text(what)
        else:
            self.control(f"fail-{self._known(what)}").touch()

    def set_boot_delay(self, seconds: str) -> None:
        """Set how many seconds every later boot takes; more than ResumeTimeout would be a failed boot."""
        self._cloud("boots that take time")
        if not seconds.isdecimal() or int(seconds) > RESUME_TIMEOUT - 10:
            raise BrokenError(f"boot delay {seconds!r}: give whole seconds, at most {RESUME_TIMEOUT - 10}")
        self.control("boot-delay").write_text(seconds)

    def mend_boots(self) -> None:
        """Let nodes boot as they do on a good day."""
        for path in self.cluster.directory.glob("ctl/fail-*"):
            path.unlink(missing_ok=True)
        self.control("boot-delay").write_text(BOOT_DELAY)

    def power_down(self, name: str) -> None:
        """Switch an idle CLOUD node off now instead of after SuspendTime; it is idle~ after SuspendTimeout."""
        self._cloud("nodes to switch off")
        self.run("scontrol", "update", f"nodename={self._known(name)}", "state=power_down")

    def _cloud(self, what: str) -> None:
        if not self.cluster.cloud:
            raise BrokenError(f"{self.cluster.name} is no cloud: it has no {what}")

    def _known(self, name: str) -> str:
        if name not in self.cluster.nodes:
            raise BrokenError(f"no node {name!r} in {self.cluster.name}; there are {', '.join(self.cluster.nodes)}")
        return name
