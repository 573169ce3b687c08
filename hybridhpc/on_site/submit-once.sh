#!/bin/sh
# Submits one job to Slurm once, however often it is run and wherever it is killed: the job is submitted held, its id is
# written down durably, and only the job with that id is released. Its state lies beside it, in $HPC_JOB_DIR.
#
#   HPC_JOB_DIR=DIR sh submit-once.sh MARKER TOKEN hold|release CWD SCRIPT  OPTIONS... SCRIPT ARGS...
#
# MARKER says how the job is found if its id was lost: path (its script lies in DIR), comment (hpc:TOKEN, cleared before
# the release) or none (by the session it was submitted from). sbatch gets the last group as it is, in CWD.
# Prints KEY=VALUE lines and, if all went well, `done`. Exit codes: 0 submitted, 65 refused, 69 not reached (of both:
# nothing was submitted), 75 undecided (repeating finds out). Slurm 20.11 to 26.05; dash, bash and busybox.
set -fu
readonly REFUSED=65 UNREACHED=69 UNDECIDED=75 PATIENCE=1500

person_umask=$(umask)
umask 077
job=$HPC_JOB_DIR
marker=$1 token=$2 wish=$3 cwd=$4 script=$5
shift 5

say() { printf '%s=%s\n' "$1" "$2"; }

# leave EXIT_CODE WORDS
leave() {
    say words "$2"
    exit "$1"
}

# in_one_line FILE: its words, without what would break the answer
in_one_line() { tr -s '\n\r' ' ' <"$1"; }

pause() { sleep 0.01 2>/dev/null || sleep 1; }

# One of Slurm's commands, answering the same to everybody: the person's own settings would hide jobs.
ask() (
    unset SQUEUE_ACCOUNT SQUEUE_ALL SQUEUE_ARRAY SQUEUE_FEDERATION SQUEUE_FORMAT SQUEUE_FORMAT2 SQUEUE_LICENSES \
        SQUEUE_LOCAL SQUEUE_NAMES SQUEUE_PARTITION SQUEUE_PRIORITY SQUEUE_QOS SQUEUE_SIBLING SQUEUE_SORT \
        SQUEUE_STATES SQUEUE_USERS SINFO_ALL SINFO_FEDERATION SINFO_FORMAT SINFO_LOCAL SINFO_PARTITION SINFO_SORT \
        SCONTROL_ALL SCONTROL_FEDERATION SCONTROL_FUTURE SCONTROL_LOCAL SCONTROL_SIBLING SCANCEL_ACCOUNT SCANCEL_BATCH \
        SCANCEL_CRON SCANCEL_CTLD SCANCEL_FULL SCANCEL_HURRY SCANCEL_INTERACTIVE SCANCEL_NAME SCANCEL_PARTITION \
        SCANCEL_QOS SCANCEL_STATE SCANCEL_USERID SCANCEL_VERBOSE SCANCEL_WCKEY SLURM_CLUSTERS SLURM_DEBUG_FLAGS
    SLURM_BITSTR_LEN=0 SLURM_TIME_FORMAT=%s TZ=UTC LC_ALL=C TERM=dumb
    export SLURM_BITSTR_LEN SLURM_TIME_FORMAT TZ LC_ALL TERM
    exec "$@"
)

is_unreached() { # FILE
    grep -qiE 'unable to contact slurm controller|socket timed out|zero bytes were transmitted|endpoint is not connected|connection (refused|timed out|reset)|communication (connection|shutdown) failure|standby mode|could not establish a configuration' "$1"
}

# ---- Processes: known again by host, pid and start time (proc(5), fields 1, 3 and 22 of stat)

# process PID|self: sets pid and start; false if there is none, or only what its parent has not collected
process() {
    IFS= read -r stat 2>/dev/null <"/proc/$1/stat" || return 1
    pid=${stat%% *}
    # shellcheck disable=SC2086 # the fields are wanted one by one
    set -- ${stat##*) }
    start=${20}
    case $1 in Z | X) return 1 ;; esac
}

# alive HOST:PID:START: 0 yes, 1 no, 2 it is another host's
alive() {
    case $1 in "$host":*) ;; *) return 2 ;; esac
    who=${1#"$host":}
    process "${who%%:*}" && [ "$pid:$start" = "$who" ]
}

# ---- The lock: one of us at a time; that of a dead process counts for nothing

lock() {
    tries=0
    until ln -s "$me" "$job/lock" 2>/dev/null; do
        [ -L "$job/lock" ] || [ -w "$job" ] || leave $UNREACHED "$job cannot be written to"
        owner=$(readlink "$job/lock") && {
            alive "$owner"
            case $? in
            1) rm -f "$job/lock" && continue ;;
            # What another host does cannot be seen; none of the steps takes as long as that.
            2) [ -z "$(find "$job/lock" -prune -mmin +15 2>/dev/null)" ] || rm -f "$job/lock" ;;
            esac
        }
        tries=$((tries + 1))
        [ $tries -lt $PATIENCE ] || leave $UNDECIDED "this job is being submitted by another process: $owner"
        pause
    done
    trap 'rm -f "$job/lock"' EXIT
}

# An sbatch may have outlived who started it: its answer is still to come.
await_sender() {
    tries=0
    until sent_id; do
        sender=$(readlink "$job/sender") && alive "$sender" || return 0
        tries=$((tries + 1))
        [ $tries -lt $PATIENCE ] || leave $UNDECIDED "an earlier sbatch of this job has not come back: $sender"
        pause
    done
}

# ---- The id

recorded_id() {
    id=
    [ -f "$job/id" ] && read -r id <"$job/id" && [ -n "$id" ]
}

# The id that sbatch has printed (ID, or ID;CLUSTER where a cluster was named); a line without end is none.
sent_id() {
    id= cluster=
    [ -s "$job/sbatch.out" ] || return 1
    while IFS= read -r line; do
        case ${line%%;*} in '' | *[!0-9]*) continue ;; esac
        id=${line%%;*}
        case $line in *\;*) cluster=${line#*;} ;; esac
    done <"$job/sbatch.out"
    [ -n "$id" ]
}

# Writes $id down so that it is there after a power cut. The first one written stays; a later one never ran.
record() {
    printf '%s\n' "$id" | dd of="$job/id.$$" conv=fsync 2>/dev/null
    ln "$job/id.$$" "$job/id" 2>/dev/null || [ -e "$job/id" ] || mv "$job/id.$$" "$job/id"
    rm -f "$job/id.$$"
    sync "$job" 2>/dev/null || sync
    mine=$id
    recorded_id || leave $UNDECIDED "job $mine is submitted and held, but $job/id cannot be written"
    [ "$id" = "$mine" ] || ask scancel "$mine"
}

# ---- Finding a job whose id was lost; it is held, since only a recorded one is released

# look: sets found to the ids of my held jobs that carry the mark; false if that cannot be asked
look() {
    found=
    sep=$(printf '\037')
    ask squeue --me --all --local --noheader --states=PENDING \
        --Format="JobArrayID:$sep,AllocSID:$sep,Comment:$sep,Command:$sep" >"$job/look.out" 2>"$job/look.err" || return 1
    while IFS= read -r line; do
        base=${line%%[!0-9]*}
        rest=${line#*"$sep"}
        carries_mark "${rest%%"$sep"*}" "${rest#*"$sep"}" || continue
        case " $found " in *" $base "*) ;; *) found="$found $base" ;; esac
    done <"$job/look.out"
}

# carries_mark SESSION COMMENT-and-COMMAND
carries_mark() {
    [ -n "$base" ] || return 1
    case $marker in
    path) case ${2#*"$sep"} in "$job"/*) return 0 ;; esac ;;
    comment) [ "${2%%"$sep"*}" = "hpc:$token" ] && return 0 ;;
    none) case ${2#*"$sep"} in "$script$sep"* | "$script "*) grep -qx "$1" "$job/sessions" 2>/dev/null && return 0 ;; esac ;;
    esac
    return 1
}

# keep_one IDS...: adopts the first; the others are held copies that never ran
keep_one() {
    [ $# -gt 0 ] || return 1
    [ $# -eq 1 ] || [ "$marker" != none ] || leave $UNDECIDED "several held jobs may be this one: $*"
    id=$1
    shift
    [ $# -eq 0 ] || ask scancel "$@"
    record
    say note "the id was lost and found again"
}

adopt() {
    look || leave $UNDECIDED "whether it was submitted cannot be asked now: $(in_one_line "$job/look.err")"
    # shellcheck disable=SC2086 # ids, divided by blanks
    keep_one $found
}

# ---- Submitting

# as_person COMMAND...: with the person's umask, directory and environment. bash and busybox count themselves in SHLVL,
# and every shell makes a PWD if there is none.
as_person() {
    umask "$person_umask"
    [ . -ef "$cwd" ] || cd -- "$cwd" || exit $REFUSED
    case $given in *"
SHLVL="*) SHLVL=${given##*"
SHLVL="} SHLVL=${SHLVL%%"
"*} ;; *) unset SHLVL ;; esac
    case $given in *"
PWD="*) ;; *) unset PWD ;; esac
    exec "$@" </dev/null
}

# The scheduler's opinion first: a held job is accepted where a plain one would be refused.
test_only() {
    (as_person sbatch --test-only "$@") >"$job/test.out" 2>"$job/test.err" && return
    words=$(in_one_line "$job/test.err")
    is_unreached "$job/test.err" && leave $UNREACHED "$words"
    case $words in
    *"Requested node configuration is not available"*) nodes_are_out && return ;;
    esac
    leave $REFUSED "$words"
}

# The one refusal that sbatch itself does not share while nodes are down or drained: it accepts the job, which waits.
nodes_are_out() {
    [ -n "$(ask sinfo --noheader --states=down,drain,fail,maint --format=%D 2>/dev/null)" ] || return 1
    say note "it fits no node that is in service now; some are down or drained, and it waits for them"
}

# What becomes sbatch: it tells who it is before it looks whether the lock is still its parent's, and whoever takes the
# lock over does these two the other way round, so that one of the two sees the other.
become_sbatch() {
    process self || exit $UNDECIDED
    ln -sf "$host:$pid:$start" "$job/sender"
    printf '%s\n' "$pid" >>"$job/sessions"
    [ "$(readlink "$job/lock")" = "$me" ] || exit $UNDECIDED
    as_person $session sbatch --parsable $holding "$@"
}

# Runs sbatch, and sets id or leaves. sbatch outlives this shell, and its output goes to a file, so that a killed
# submission is found out about. With --wait in the script it prints the id and stays.
send() {
    : >"$job/sbatch.out"
    sync "$job" 2>/dev/null || sync
    become_sbatch "$@" >"$job/sbatch.out" 2>"$job/sbatch.err" &
    sbatch=$!
    until sent_id; do
        process "$sbatch" || break
        pause
    done
    sent_id || no_id
}

# sbatch has ended without an id: whether there is a job is asked, never guessed.
no_id() {
    wait "$sbatch"
    code=$?
    words=$(in_one_line "$job/sbatch.err")
    adopt && return
    [ $code -lt 75 ] || leave $UNDECIDED "sbatch ended with $code: $words"
    ! is_unreached "$job/sbatch.err" || leave $UNDECIDED "$words"
    rm -f "$job/sbatch.out"
    [ $code -ne 0 ] || words="sbatch submitted nothing: $words"
    leave $REFUSED "$words"
}

# ---- After it

# finish: reads the job back, clears the mark, releases exactly the recorded id. All of it may be repeated.
finish() {
    tries=0
    until { finish_questions | ask scontrol ${cluster:+-M "$cluster"} --oneliner; } >"$job/readback" 2>"$job/finish.err" &&
        ! is_unreached "$job/finish.err"; do
        is_unreached "$job/finish.err" || break
        tries=$((tries + 1))
        [ $tries -lt 3 ] || leave $UNDECIDED "job $id is submitted, but not released: $(in_one_line "$job/finish.err")"
    done
    last=
    while IFS= read -r line; do
        case $line in *' JobState='*) last=$line ;; esac
    done <"$job/readback"
    case $wish:$last in
    release:*' Reason=JobHeld'*) say note "job $id stays held: $(in_one_line "$job/finish.err")" ;;
    *) : >"$job/released" ;;
    esac
}

finish_questions() {
    printf 'show job %s\n' "$id"
    [ "$marker" != comment ] || printf 'update JobId=%s Comment=\n' "$id"
    [ "$wish" = hold ] || printf 'release %s\n' "$id"
    printf 'show job %s\n' "$id"
}

# Slurm fails a job whose output cannot be opened, and says so nowhere.
check_output() {
    out=${last##* StdOut=}
    out=${out%% [A-Z]*=*}
    case ${out%/*} in
    *%* | '' | [!/]*) ;;
    *) [ -d "${out%/*}" ] || say note "the directory of its output does not exist here: ${out%/*}" ;;
    esac
}

answer() {
    say job_id "$id"
    [ -z "$cluster" ] || say cluster "$cluster"
    [ ! -f "$job/readback" ] || while IFS= read -r line; do say readback "$line"; done <"$job/readback"
    while IFS= read -r line; do
        case $line in '#SBATCH'*) say asked "${line#'#SBATCH'}" ;; '#'* | '') ;; *) break ;; esac
    done <"$script"
    echo done
}

# A sbatch --wait has nothing left to wait for here; one that is about to end is let end.
end_waiting() {
    tries=0
    while process "$1"; do
        tries=$((tries + 1))
        [ $tries -lt 20 ] || kill "$1" || return 0
        pause
    done
}

[ -d "$cwd" ] || leave $REFUSED "the working directory does not exist: $cwd"
read -r host 2>/dev/null </proc/sys/kernel/hostname || host=$(uname -n)
process self || leave $UNREACHED "/proc is not there"
me=$host:$pid:$start
given="
$(tr '\0' '\n' 2>/dev/null <"/proc/$$/environ")"
session=$(command -v setsid) && session=setsid
cluster= sbatch=

lock
if recorded_id; then
    sent_id && [ "$id" = "$(cat "$job/id")" ] || { cluster= && recorded_id; }
    [ -e "$job/released" ] || finish
    answer
    exit 0
fi
await_sender
if sent_id; then
    record
elif ! { [ -e "$job/sbatch.out" ] && adopt; }; then
    test_only "$@"
    holding=--hold
    command -v scontrol >/dev/null || {
        holding=
        say note "scontrol is missing: it was not held until its id was safe, so a crash may have made a second one"
    }
    [ "$marker" != comment ] || holding="$holding --comment=hpc:$token"
    send "$@"
    recorded_id || { sent_id && record; }
fi
[ -z "${holding-x}" ] || finish
[ ! -f "$job/readback" ] || check_output
[ -z "$sbatch" ] || end_waiting "$sbatch"
answer
