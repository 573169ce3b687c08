#!/bin/sh
# Records what a real Slurm answers to the dialect's questions, as data for tests/unit/test_slurm_recorded.py.
#
#   SLURM_CONF=/path/to/slurm.conf sh record.sh DIRECTORY
#
# Writes DIRECTORY/VERSION.txt: for each question its exit code, standard output and standard error. Wants a cluster of its own with nothing on it: partition `batch`,
# nodes dgx1 and dgx2 with gpu:h100:8, the right to drain a node, and cred_expire=5, so that a requeued job soon waits
# again. Takes about 80 s, for one job has to run into its time limit. Cancels its jobs by their ids.
# In the recordings that are there, OverSubscribe and Exclusive were added by hand, as 22.05, 24.11 and 26.05 answer them.
# The questions are those of slurm_survey, slurm_status and slurm.py; a unit test compares them.
set -eu
LC_ALL=C TZ=UTC SLURM_TIME_FORMAT=%s SLURM_BITSTR_LEN=0 TERM=dumb
export LC_ALL TZ SLURM_TIME_FORMAT SLURM_BITSTR_LEN TERM
version=$(sinfo --version | sed 's/.* //')
mkdir -p "$1"
into=$(cd "$1" && pwd)/$version.txt
US=$(printf '\037')
work=$(mktemp -d)
cd "$work"
jobs=

script() { # NAME LINE
    printf '#!/bin/sh\n%s\n' "$2" >"$1"
}
submit() { # OPTIONS... SCRIPT
    id=$(sbatch --parsable --mem=10M "$@")
    jobs="$jobs $id"
}
ask() { # NAME COMMAND...
    name=$1 rc=0
    shift
    "$@" >out 2>err || rc=$?
    if [ "$name" = survey-limits ]; then
        grep -E '^(scontrol: |PartitionName=|MaxArraySize|PrivateData|SLURM_VERSION|DefMemPerCPU)' out >kept || true
        mv kept out
    fi
    { echo "#### $name $rc" && cat out && echo '####' && cat err; } >>"$into"
}

script sleep.sh 'sleep 600'
script three.sh 'exit 3'
script fine.sh 'true'
script killed.sh 'kill -9 $$'
script again.sh '[ "${SLURM_RESTART_COUNT:-0}" != 0 ] || scontrol requeue $SLURM_JOB_ID; sleep 600'

submit -t 1 sleep.sh && timeout=$id
submit three.sh
submit killed.sh
submit fine.sh
submit again.sh
submit -a 1-3 three.sh
submit -n1 : --mem=10M -n2 three.sh
submit sleep.sh && cancelled=$id
submit --hold sleep.sh && never=$id
submit -J "$(printf 'two\nlines|of\037 a \033[31mname\303\251')" -c4 sleep.sh 'an argument'
submit -a '0-5%2' sleep.sh
submit --hold -a '1-199:2%7' sleep.sh
submit --hold -a 1-4 sleep.sh && split=$id
submit --hold -N2 --gpus-per-node=h100:2 sleep.sh
submit -N1 -n3 --gpus-per-task=2 --cpus-per-gpu=4 sleep.sh
submit --hold --gpus=3 sleep.sh
submit --hold --gres=gpu:2 -N2 sleep.sh
submit -d "afterok:$timeout" sleep.sh
submit -d "afternotok:$timeout" --begin=now+1day sleep.sh
submit --begin=now+1hour -N2 --exclusive sleep.sh
submit -p batch,all --hold sleep.sh
submit sleep.sh && suspended=$id
scontrol release "${split}_2"
await() { # STATE JOB
    until squeue -h -t "$1" -j "$2" -o %T | grep -q "$1"; do sleep 1; done
}
await RUNNING "$cancelled"
await RUNNING "${split}_2"
await RUNNING "$suspended"
scancel "$cancelled" "$never" "${split}_4"
scontrol suspend "$suspended"
await TIMEOUT "$timeout"
sleep 2

echo "recorded by record.sh, jobs:$jobs" >"$into"
ask survey-jobs squeue --all --local --noheader --Format="JobArrayID:$US,PriorityLong:$US,State:$US,Partition:$US,NumNodes:$US,NumCPUs:$US,tres-alloc:$US,tres-per-job:$US,tres-per-node:$US,tres-per-socket:$US,tres-per-task:$US,NumTasks:$US,TimeLimit:$US,StartTime:$US,NodeList:$US,Reason:$US,OverSubscribe:$US,Exclusive:$US"
nodes() { # NAME
    ask "$1" sinfo --local --noheader --Node --Format="NodeHost:$US,Partition:$US,StateLong:$US,CPUsState:$US,Memory:$US,AllocMem:$US,Gres:$US,GresUsed:$US,Features:$US,Available:$US,Time:$US"
}
nodes survey-nodes
limits() { printf 'show partition\nshow config\n' | scontrol --oneliner; }
ask survey-limits limits
status="JobArrayID:$US,State:$US,SubmitTime:$US,StartTime:$US,EndTime:$US,exit_code:$US,RestartCnt:$US,NodeList:$US,Reason:$US"
all=$(echo $jobs | tr ' ' ,)
ask status squeue --me --all --local --noheader --states=all --jobs="$all" --Format="$status"
ask status-unknown squeue --me --all --local --noheader --states=all --jobs=999999 --Format="$status"
ask status-two-unknown squeue --me --all --local --noheader --states=all --jobs=999998,999999 --Format="$status"
ask find squeue --me --all --local --noheader --states=all --Format="JobArrayID:$US,Command:$US"
ask last-words sacct --allocations --noheader --parsable2 --delimiter="$US" --format=JobID,State,ExitCode,Submit,Start,End,NodeList --jobs="$all"
ask last-words-unknown sacct --allocations --noheader --parsable2 --delimiter="$US" --format=JobID,State,ExitCode,Submit,Start,End,NodeList --jobs=999999
ask estimate sbatch --test-only -N1 fine.sh
ask estimate-refused sbatch --test-only -N99 fine.sh
ask estimate-no-partition sbatch --test-only -p nosuch fine.sh
ask cancel-unknown scancel 999999
shown() { printf 'show job %s\n' "$split" | scontrol --oneliner; }
ask readback shown
scontrol update nodename=dgx2 state=drain reason='being recorded'
nodes drained-nodes
ask estimate-drained sbatch --test-only -N2 fine.sh
scontrol update nodename=dgx2 state=down reason='being recorded'
nodes down-nodes
scontrol update nodename=dgx2 state=resume
scancel $jobs
rm -r "$work"
