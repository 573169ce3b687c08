#!/bin/bash
#SBATCH --nodes=1

# Job script for site/batch, rendered by hybridhpc. Started by hand it runs in the directory it is started from.
# shellcheck disable=SC2317 # functions are called by traps and by hpc_await
set -u

if [ -n "${HPC_JOB_DIR:-}" ]; then
  hpc_by_hand=
  hpc_directory="$HPC_JOB_DIR"
else
  hpc_by_hand=1
  HPC_JOB_DIR=$PWD
  hpc_directory=$PWD
fi
export HPC_JOB_DIR
# How many attempts came before this one (the directory is TOKEN/ATTEMPT), and how often this one was requeued.
HPC_RESTART_COUNT=${HPC_JOB_DIR##*/}
[[ $HPC_RESTART_COUNT =~ ^[1-9][0-9]{0,5}$ ]] || HPC_RESTART_COUNT=1
HPC_RESTART_COUNT=$((HPC_RESTART_COUNT - 1 + ${SLURM_RESTART_COUNT:-0}))
export HPC_RESTART_COUNT
hpc_run=${SLURM_ARRAY_TASK_ID:--}.${SLURM_RESTART_COUNT:-0}
hpc_files=$HPC_JOB_DIR/script-4d42817caff5
hpc_pid=
hpc_witness=
hpc_told=.
hpc_stopped=
hpc_code=1

hpc_say() {
  printf 'hpc: %s\n' "$*" >&2
}

hpc_die() {
  hpc_say "$*; the job ends"
  exit 1
}

# hpc_mark NAME WORDS: a marker appears whole or not at all.
hpc_mark() {
  local marker=$1.$hpc_run
  shift
  printf '%s\n' "$*" >"$HPC_JOB_DIR/.$marker.$$" && mv -f "$HPC_JOB_DIR/.$marker.$$" "$HPC_JOB_DIR/$marker"
}

# hpc_begin: the start marker is made once. A controller that forgot its last seconds may start the very same run again
# (a requeue counts as a restart, and is another run): that one does not run, and ends as the first one does.
hpc_begin() {
  local marker=$HPC_JOB_DIR/start.$hpc_run part
  hpc_end_if_followed
  part=$HPC_JOB_DIR/.start.$hpc_run.$(uname -n).$$
  printf '%s\n' "$(date +%s) $(uname -n)" >"$part" || hpc_die "$HPC_JOB_DIR cannot be written to"
  if ln "$part" "$marker" 2>/dev/null; then
    rm -f "$part"
  elif [ -n "$hpc_by_hand" ] || [ ! -e "$marker" ]; then
    mv -f "$part" "$marker"
  else
    rm -f "$part"
    hpc_end_as_the_first
  fi
  hpc_end_if_followed
  [ -n "$hpc_by_hand" ] || hpc_end_if_done
}

# Another attempt has followed this one, which was cancelled or lost: its controller forgot that. Who makes that attempt
# leaves a sign first and then looks for a start marker; here it is the other way round, so that one sees the other.
hpc_end_if_followed() {
  if [ -z "$hpc_by_hand" ] && [ -e "$HPC_JOB_DIR/followed" ]; then
    hpc_die "another attempt has followed this one"
  fi
}

# An earlier run ended well, and the job was requeued all the same: its controller forgot that it had ended.
hpc_end_if_done() {
  local code marker
  for marker in "$HPC_JOB_DIR/exit.${hpc_run%.*}".*; do
    if [ -e "$marker" ] && read -r code _ <"$marker" && [ "$code" = 0 ]; then
      hpc_say "an earlier run of it ended well; nothing is run again"
      hpc_code=0
      exit 0
    fi
  done
}

hpc_end_as_the_first() {
  local code
  trap - EXIT
  trap 'exit 143' TERM INT HUP
  kill "$hpc_witness" 2>/dev/null
  hpc_say "this very run began before ($(cat "$HPC_JOB_DIR/start.$hpc_run")); its end is waited for"
  until read -r code _ <"$HPC_JOB_DIR/exit.$hpc_run"; do
    sleep 1
  done 2>/dev/null
  exit "$code"
}

# The last act, however the script ends. An exit with 0 that was not the payload's (a preamble's, say) counts as 1.
hpc_leave() {
  local code=$?
  [ "$code" -ne 0 ] || code=$hpc_code
  kill "$hpc_witness" 2>/dev/null
  hpc_mark exit "$code $(date +%s)"
  exit "$code"
}

# hpc_processes WHICH: processes of the payload on this node. WHICH is first, or a pattern for a mask of signals: all
# those that catch or await one of them.
hpc_processes() {
  cat /proc/[0-9]*/status 2>/dev/null | awk -v root="$hpc_pid" -v which="$1" '
    $1 == "Pid:" { pid = $2 }
    $1 == "PPid:" { parent[pid] = $2 }
    ($1 == "SigBlk:" || $1 == "SigCgt:") && (which == "first" || $2 ~ which) { found[pid] }
    END {
      for (pid in found) {
        at = pid
        if (which == "first") at = parent[pid]
        else while (at != root && (at in parent)) at = parent[at]
        if (at == root) print pid
      }
    }'
}

# TERM, INT, HUP: pass TERM on to the payload. If the witness is dead, the signal was sent to every process of the job
# and the payload has had it: a second TERM makes torchrun leave its workers behind. A marker says that it was asked to
# end: one that Slurm has ended for its walltime and that nobody asked had lost its node before.
hpc_stop() {
  [ -n "$hpc_stopped" ] || hpc_mark asked "$(date +%s)"
  hpc_stopped=1
  [ -n "$hpc_pid" ] || exit 143
  sleep 0.2
  if kill -0 "$hpc_witness" 2>/dev/null; then
    # shellcheck disable=SC2046
    kill -s TERM $(hpc_processes "$hpc_told") 2>/dev/null
  fi
}

# hpc_await COMMAND: runs it in the background, so that signals are heard at once, and returns its exit code. The code
# comes through a pipe: wait loses it if a signal arrives in the moment the command ends (seen in bash 5.2).
hpc_await() {
  local code
  [ -z "$hpc_stopped" ] || exit 143
  (
    trap : TERM INT HUP
    ("$@") {hpc_codes}>&-
    echo $? >&"$hpc_codes"
  ) <&0 &
  hpc_pid=$!
  while kill -0 "$hpc_pid" 2>/dev/null; do
    wait "$hpc_pid"
  done
  hpc_pid=
  read -r -t 1 code <&"$hpc_codes" || code=137
  return "$code"
}

# hpc_file NAME: standard input becomes that file, unless it is there already (a restart, another task of the array).
hpc_file() {
  local file=$hpc_files/$1 part
  part=$file.$(uname -n).$$
  [ ! -e "$file" ] || return 0
  (umask 077 && mkdir -p "$hpc_files" && cat >"$part") && mv -n "$part" "$file"
  rm -f "$part"
  [ -e "$file" ] || hpc_die "$file cannot be written"
}

trap hpc_leave EXIT
trap hpc_stop TERM INT HUP
exec {hpc_codes}<> <(:) # a pipe
# The witness: a process that does nothing but die of a signal that is meant for the whole job.
(trap '' QUIT USR1 USR2 ALRM && exec sleep 2147483647) </dev/null >/dev/null 2>&1 &
hpc_witness=$!
hpc_begin

MASTER_ADDR=$(scontrol show hostnames "${SLURM_JOB_NODELIST:-}" 2>/dev/null | head -n 1)
MASTER_ADDR=${MASTER_ADDR:-$(uname -n)}
NNODES=${SLURM_JOB_NUM_NODES:-1}
MASTER_PORT=$((20000 + ${SLURM_JOB_ID:-$$} % 10000))
export MASTER_ADDR MASTER_PORT NNODES
export GPUS_PER_NODE=0
export HPC_NAME=job

cd -- "$hpc_directory" || hpc_die "$hpc_directory cannot be entered"

hpc_file env.sh <<'HPC_END'
export NODE_RANK=${SLURM_NODEID:-0}
HPC_END

hpc_file run.sh <<'HPC_END'
. "${0%/*}/env.sh"
trap 'hpc_code=$?; exit $((hpc_code ? hpc_code : 143))' TERM
./work.sh
HPC_END

hpc_payload() {
  # shellcheck source=/dev/null
  . "$hpc_files/env.sh"
  exec /bin/bash "$hpc_files/run.sh"
}
hpc_await hpc_payload
hpc_code=$?
# srun answers 0 for a step that was cancelled (seen in 22.05); what was stopped has not completed.
[ -z "$hpc_stopped" ] || [ "$hpc_code" -ne 0 ] || hpc_code=143
exit "$hpc_code"
