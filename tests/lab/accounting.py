"""Who may use the cluster at home, and how much: accounts with fair shares, QOS with limits, by sacctmgr."""

from tests.lab.running import Running, wait

COMMANDS = """
set -e
add() { sacctmgr -i -Q add "$@"; }
add qos long set Priority=10 MaxTRESPerUser=gres/gpu=16
add qos debug set Priority=100 MaxWall=30:00 MaxJobsPerUser=2
sacctmgr -i -Q modify qos normal set Priority=50 MaxTRESPerUser=gres/gpu=64
add account ml set Fairshare=60 Description=models Organization=lab
add account bio set Fairshare=30 GrpTRES=gres/gpu=32 Description=proteins Organization=lab
add user root,"$1" account=ml DefaultAccount=ml Fairshare=10 QOS=normal,long,debug DefaultQOS=normal
add user "$1" account=bio Fairshare=10 QOS=normal,debug DefaultQOS=normal
"""


def await_slurmdbd(lab: Running) -> None:
    """Wait until slurmdbd answers: a controller that starts before it knows nobody. Raises BrokenError."""

    def answers() -> bool:
        lab.check_runs("slurmdbd")
        return "Cluster" in lab.run("sacctmgr", "-P", "show", "cluster", check=False)

    wait(answers, 60, f"slurmdbd of {lab.cluster.name} does not answer: see {lab.cluster.directory}/log/slurmdbd.log")


def add_accounts(lab: Running) -> None:
    """Add the company's accounts, QOS and users once the controller has made itself and its GPUs known to slurmdbd."""
    known = ("sacctmgr", "-nP", "show", "tres", "format=type,name")
    wait(lambda: "gres|gpu" in lab.run(*known, check=False), 30, f"{lab.cluster.name} is not known to its slurmdbd")
    if lab.run("sacctmgr", "-nP", "show", "account", "ml", check=False).strip():
        return
    lab.run("sh", "-c", COMMANDS, "sh", lab.cluster.user)
