"""The text of what makes the machines of a cluster: becoming one, booting one, losing one, logging in to one. Pure.

A machine is a process in namespaces of its own: it has its host name, its mounts and, but for the controller's, its
processes. `machine CONF NAME COMMAND...` is its first program.
"""

from tests.lab.cluster import Cluster
from tests.lab.slurm_files import NODE_CONF

NAMESPACES = ("unshare", "--uts", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child=KILL")
UIDS = {"alice": 64101, "asmith": 64102, "alice_example_com": 64103}
"""The people of the company. They exist inside the clusters only; the machine itself never hears of them."""
USER_FILES = ("passwd", "group", "shadow")
MARK = "HYBRIDHPC_LAB"


def scripts(cluster: Cluster) -> dict[str, str]:
    """Name and text of the programs in the cluster's etc directory."""
    files = {"machine": machine(cluster), "login": login(cluster)}
    if cluster.cloud:
        files |= {"boot": boot(cluster), "resume": resume(cluster), "suspend": suspend(cluster)}
    return files


def machine(cluster: Cluster) -> str:
    """The program that turns the namespaces it runs in into a machine of the cluster, and then runs a command there.

    In a process namespace the shell stays as pid 1 and reaps what others leave; `exit` keeps it from becoming its last
    command. All mounts end with the namespace.
    """
    etc = cluster.directory / "etc"
    return f"""#!/bin/sh
set -e
conf=$1 name=$2
shift 2
{_tree(cluster) if cluster.tree else ""}
mount --bind {cluster.system} /etc
mount --bind "{etc}/$conf" {cluster.slurm_conf}
{f"mount --bind {cluster.homes} /home" if cluster.cloud and not cluster.tree else ""}
hostname "$name"
set +e
[ $$ = 1 ] || exec "$@"
"$@"
exit $?
"""


def _tree(cluster: Cluster) -> str:
    """Make another Debian's directories the machine's own, without ever writing to them.

    pivot_root and not chroot, in which the kernel refuses user namespaces. The lab lies where it lay.
    """
    lab = cluster.directory.parent
    return f"""
if [ ! -e /.hybridhpc-lab ]; then
    new={cluster.tree}/mnt
    mount -t tmpfs -o mode=755 tmpfs "$new"
    cd "$new"
    for entry in bin etc lib lib32 lib64 libx32 sbin usr var; do
        if [ -L "{cluster.tree}/$entry" ]; then
            cp -P "{cluster.tree}/$entry" "$entry"
        elif [ -d "{cluster.tree}/$entry" ]; then
            mkdir "$entry"
            mount --bind "{cluster.tree}/$entry" "$entry"
            mount -o remount,bind,ro "$entry"
        fi
    done
    mount -t tmpfs -o mode=1777 tmpfs var/tmp
    mkdir dev proc sys tmp run root home old
    chmod 1777 tmp
    mount --rbind /dev dev
    mount --rbind /sys sys
    mount -t proc proc proc
    mkdir -p ".{lab}"
    mount --rbind "{lab}" ".{lab}"
    mount --bind "{cluster.homes}" home
    touch .hybridhpc-lab
    pivot_root . old
    cd /
    umount -l old
fi"""


def login(cluster: Cluster) -> str:
    """The program of a head node that people log in to: an sshd, started again whenever it ends and may run.

    It reads $C/ctl/ssh-port at each start; while $C/ctl/no-ssh exists there is no sshd.
    """
    home = cluster.directory
    return f"""#!/bin/sh
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/sshd
while :; do
    if [ -e {home}/ctl/no-ssh ]; then
        sleep 0.05
    else
        /usr/sbin/sshd -D -e -f {home}/etc/sshd_config -p "$(cat {home}/ctl/ssh-port)"
        sleep 0.05
    fi
done
"""


def sshd_config(cluster: Cluster) -> str:
    """The text of sshd_config(5). SLURM_CONF alone makes each head its own cluster for the same client commands."""
    lines = [
        f"ListenAddress {cluster.ssh_address}",
        f"HostKey {cluster.directory}/etc/ssh_host_ed25519_key",
        "PidFile none",
        f"AuthorizedKeysFile {cluster.directory.parent}/ssh/authorized_keys",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "UsePAM no",
        "StrictModes no",
        "PermitRootLogin prohibit-password",
        f"SetEnv SLURM_CONF={cluster.slurm_conf}",
        "MaxStartups 100",
        "MaxSessions 100",
        "Subsystem sftp internal-sftp",
    ]
    return "\n".join(lines) + "\n"


def boot(cluster: Cluster) -> str:
    """`boot NODE SECONDS`: records itself as the node, takes so long, and becomes the node."""
    home, etc = cluster.directory, cluster.directory / "etc"
    return f"""#!/bin/sh
cat "/proc/$$/stat" > "{home}/run/$1.stat.new" && mv "{home}/run/$1.stat.new" "{home}/run/$1.stat"
sleep "$2"
exec {" ".join(NAMESPACES)} sh {etc}/machine {NODE_CONF} "$1" slurmd -D -b -N "$1" -f {cluster.slurm_conf}
"""


def resume(cluster: Cluster) -> str:
    """ResumeProgram: boots the nodes of a hostlist and returns at once.

    ctl/boot-delay says how long a boot takes; ctl/fail-NODE makes the node's next boot fail, ctl/fail-next that many.
    """
    home = cluster.directory
    return f"""#!/bin/sh
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH
exec 9>>{home}/run/resume.lock
flock 9
left=$(cat {home}/ctl/fail-next 2>/dev/null || echo 0)
for node in $(scontrol show hostnames "$1"); do
    if [ -e "{home}/ctl/fail-$node" ]; then
        rm "{home}/ctl/fail-$node"
        word=fails
    elif [ "$left" -gt 0 ]; then
        left=$((left - 1))
        echo "$left" > {home}/ctl/fail-next
        word=fails
    else
        word=boots
        booting="$booting $node"
        rm -f "{home}/run/$node.stat"
        {MARK}={home.parent} setsid sh {home}/etc/boot "$node" "$(cat {home}/ctl/boot-delay)" \\
            </dev/null >>"{home}/log/$node.out" 2>&1 9>&- &
    fi
    echo "$(date +%s) $node $word" >> {home}/log/power.log
done
# slurmctld kills what is left of this program's process group when it ends (24.11): let every boot leave it first.
for node in $booting; do
    until [ -e "{home}/run/$node.stat" ]; do
        sleep 0.01
    done
done
"""


def suspend(cluster: Cluster) -> str:
    """SuspendProgram and ResumeFailProgram: ends the nodes of a hostlist, each by its recorded process group."""
    home = cluster.directory
    return f"""#!/bin/sh
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH
started() {{
    sed 's/.*) //' "$1" 2>/dev/null | cut -d ' ' -f 20
}}
for node in $(scontrol show hostnames "$1"); do
    record={home}/run/$node.stat
    pid=$(cut -d ' ' -f 1 "$record" 2>/dev/null)
    if [ -n "$pid" ] && [ "$(started "$record")" = "$(started "/proc/$pid/stat")" ]; then
        kill -KILL "-$pid"
    fi
    rm -f "$record"
    echo "$(date +%s) $node ends" >> {home}/log/power.log
done
"""


def hosts(cluster: Cluster) -> str:
    """The text of /etc/hosts inside the cluster: all its machines are at one address, told apart by their ports."""
    names = " ".join((cluster.head, *cluster.nodes))
    return f"127.0.0.1 localhost\n::1 localhost ip6-localhost\n127.0.0.1 {names}\n"


def user_file(cluster: Cluster, name: str, base: str) -> str:
    """The text of passwd, group or shadow inside the cluster: `base` and the cluster's user.

    "*" lets nobody in by a password, yet is no locked account, which sshd would refuse.
    """
    user, uid = cluster.user, UIDS[cluster.user]
    kept = (line for line in base.splitlines() if line.split(":")[0] != user)
    own = {
        "passwd": f"{user}:x:{uid}:{uid}::{cluster.user_home}:/bin/bash",
        "group": f"{user}:x:{uid}:",
        "shadow": f"{user}:*:20000:0:99999:7:::",
    }
    return "\n".join((*kept, own[name])) + "\n"
