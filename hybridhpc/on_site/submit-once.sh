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
readonly so_REFUSED=65 so_UNREACHED=69 so_UNDECIDED=75 so_PATIENCE=1500

so_umask=$(umask)
umask 077
so_job=$HPC_JOB_DIR
so_marker=$1 so_token=$2 so_wish=$3 so_cwd=$4 so_script=$5
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

# in_environment WHOSE COMMAND...: in the environment that this shell was started with, to the byte (dash and busybox
# drop what they cannot name, like `BASH_FUNC_module%%`; bash counts itself): the person's as it is, for a question
# without Slurm's own settings, which would hide jobs.
in_environment() {
    so_whose=$1
    shift
    IFS=$so_newline
    for so_line in $so_environ; do
        case $so_whose:$so_line in
        question:SLURM_CONF=*) ;;
        question:SLURM_* | question:SQUEUE_* | question:SINFO_* | question:SCONTROL_* | question:SCANCEL_*) continue ;;
        person:PWD=*) [ -z "$so_moved" ] || so_line=PWD=$so_cwd ;;
        esac
        while :; do
            case $so_line in *"$so_mark"*) ;; *) break ;; esac
            so_line=${so_line%%"$so_mark"*}$so_newline${so_line#*"$so_mark"}
        done
        case $so_line in [!=-]*=*) set -- "$so_line" "$@" ;; esac
    done
    exec env -i "$@"
}

# ask COMMAND...: a question to the scheduler
ask() (
    in_environment question SLURM_BITSTR_LEN=0 SLURM_TIME_FORMAT=%s TZ=UTC LC_ALL=C TERM=dumb "$@"
)

# as_person COMMAND...: with the person's umask, directory and environment
as_person() {
    umask "$so_umask"
    so_moved=
    # shellcheck disable=SC3013 # dash, bash and busybox have it
    [ . -ef "$so_cwd" ] || { cd -- "$so_cwd" && so_moved=yes; } || exit $so_REFUSED
    in_environment person "$@" </dev/null
}

# is_unreached FILE: the words in it say that the controller was not reached, or that its answer did not come
is_unreached() {
    grep -qi -e 'unable to contact slurm controller' -e 'socket timed out' -e 'zero bytes were transmitted' \
        -e 'endpoint is not connected' -e 'connection refused' -e 'connection timed out' -e 'connection reset' \
        -e 'connection failure' -e 'standby mode' -e 'could not establish a configuration' "$1"
}

# ---- Processes: known again by host, pid and start time (proc(5), fields 1, 3 and 22 of stat)

# process PID|self: sets pid and start; false if there is none, or only what its parent has not collected
process() {
    IFS= read -r so_stat 2>/dev/null <"/proc/$1/stat" || return 1
    so_pid=${so_stat%% *}
    # shellcheck disable=SC2086 # the fields are wanted one by one
    set -- ${so_stat##*) }
    so_start=${20}
    case $1 in Z | X) return 1 ;; esac
}

# alive HOST:PID:START: 0 yes, 1 no, 2 it is another host's
alive() {
    case $1 in "$so_host":*) ;; *) return 2 ;; esac
    so_who=${1#"$so_host":}
    process "${so_who%%:*}" && [ "$so_pid:$so_start" = "$so_who" ]
}

# ---- The lock: one of us at a time; that of a dead process counts for nothing

lock() {
    so_tries=0
    until ln -s "$so_me" "$so_job/lock" 2>/dev/null; do
        [ -L "$so_job/lock" ] || [ -w "$so_job" ] || leave $so_UNREACHED "$so_job cannot be written to"
        so_owner=$(readlink "$so_job/lock") && {
            alive "$so_owner"
            case $? in
            1) rm -f "$so_job/lock" && continue ;;
            # What another host does cannot be seen; none of the steps takes as long as that.
            2) [ -z "$(find "$so_job/lock" -prune -mmin +15 2>/dev/null)" ] || rm -f "$so_job/lock" ;;
            esac
        }
        so_tries=$((so_tries + 1))
        [ $so_tries -lt $so_PATIENCE ] || leave $so_UNDECIDED "it is being submitted by another process: $so_owner"
        pause
    done
    trap 'rm -f "$so_job/lock"' EXIT
}

# An sbatch may have outlived who started it: its answer is still to come.
await_sender() {
    so_tries=0
    until sent_id; do
        so_sender=$(readlink "$so_job/sender") && alive "$so_sender" || return 0
        so_tries=$((so_tries + 1))
        [ $so_tries -lt $so_PATIENCE ] || leave $so_UNDECIDED "its sbatch has not come back yet: $so_sender"
        pause
    done
}

# ---- The id

recorded_id() {
    so_id=
    [ -f "$so_job/id" ] && read -r so_id <"$so_job/id" && [ -n "$so_id" ]
}

# The id that sbatch has printed (ID, or ID;CLUSTER where a cluster was named); a line without end is none.
sent_id() {
    so_id='' so_cluster=''
    [ -s "$so_job/sbatch.out" ] || return 1
    while IFS= read -r so_line; do
        case ${so_line%%;*} in '' | *[!0-9]*) continue ;; esac
        so_id=${so_line%%;*}
        case $so_line in *\;*) so_cluster=${so_line#*;} ;; esac
    done <"$so_job/sbatch.out"
    [ -n "$so_id" ]
}

# Writes $so_id down so that it is there after a power cut. The first one written stays; a later one never ran.
record() {
    printf '%s\n' "$so_id" | dd of="$so_job/id.$$" conv=fsync 2>/dev/null
    ln "$so_job/id.$$" "$so_job/id" 2>/dev/null || [ -e "$so_job/id" ] || mv "$so_job/id.$$" "$so_job/id"
    rm -f "$so_job/id.$$"
    sync "$so_job" 2>/dev/null || sync
    so_mine=$so_id
    recorded_id || leave $so_UNDECIDED "job $so_mine is submitted and held, but $so_job/id cannot be written"
    [ "$so_id" = "$so_mine" ] || ask scancel "$so_mine"
}

# ---- Finding a job whose id was lost; it is held, since only a recorded one is released

# look: sets so_found to the ids of my held jobs (priority 0) that carry the mark; false if that cannot be asked
look() {
    so_found=
    so_sep=$(printf '\037')
    so_fields="JobArrayID:$so_sep,PriorityLong:$so_sep,AllocSID:$so_sep,Comment:$so_sep,Command:$so_sep"
    ask squeue --me --all --local --noheader --states=PENDING --Format="$so_fields" \
        >"$so_job/look.out" 2>"$so_job/look.err" || return 1
    while IFS= read -r so_line; do
        so_base=${so_line%%[!0-9]*}
        so_line=${so_line#*"$so_sep"}
        case $so_base:$so_line in [0-9]*:"0$so_sep"*) ;; *) continue ;; esac
        carries_mark "${so_line#*"$so_sep"}" || continue
        case " $so_found " in *" $so_base "*) ;; *) so_found="$so_found $so_base" ;; esac
    done <"$so_job/look.out"
}

# carries_mark SESSION COMMENT COMMAND, with separators between and behind
carries_mark() {
    so_comment=${1#*"$so_sep"}
    [ "$so_marker" != comment ] || {
        [ "${so_comment%%"$so_sep"*}" = "hpc:$so_token" ]
        return
    }
    # 22.05 shows the arguments, too.
    case ${so_comment#*"$so_sep"} in "$so_script$so_sep"* | "$so_script "*) ;; *) return 1 ;; esac
    [ "$so_marker" = path ] || grep -qx "${1%%"$so_sep"*}" "$so_job/sessions" 2>/dev/null
}

# keep_one IDS...: adopts the first; the others are held copies that never ran
keep_one() {
    [ $# -gt 0 ] || return 1
    [ $# -eq 1 ] || [ "$so_marker" != none ] || leave $so_UNDECIDED "several held jobs may be this one: $*"
    so_id=$1
    shift
    [ $# -eq 0 ] || ask scancel "$@"
    record
    say note "the id was lost and found again"
}

# Held copies beside the recorded job: what an answer that came too late can leave.
cancel_copies() {
    look || return 0
    for so_copy in $so_found; do
        [ "$so_copy" = "$so_id" ] || case $so_marker in
        none) say note "held job $so_copy may be a copy that never ran" ;;
        *) ask scancel "$so_copy" ;;
        esac
    done
}

adopt() {
    look || leave $so_UNDECIDED "whether it was submitted cannot be asked now: $(in_one_line "$so_job/look.err")"
    # shellcheck disable=SC2086 # ids, divided by blanks
    keep_one $so_found
}

# ---- Submitting

# The scheduler's opinion first: a held job is accepted where a plain one would be refused.
test_only() {
    (as_person sbatch --test-only "$@") >"$so_job/test.out" 2>"$so_job/test.err" && return
    so_words=$(in_one_line "$so_job/test.err")
    is_unreached "$so_job/test.err" && leave $so_UNREACHED "$so_words"
    case $so_words in
    *"Requested node configuration is not available"*) nodes_are_out && return ;;
    esac
    leave $so_REFUSED "$so_words"
}

# The one refusal that sbatch itself does not share while nodes are down or drained: it accepts the job, which waits.
nodes_are_out() {
    [ -n "$(ask sinfo --noheader --states=down,drain,fail,maint --format=%D 2>/dev/null)" ] || return 1
    say note "it fits no node that is in service now; some are down or drained, and it waits for them"
}

# What becomes sbatch: it tells who it is before it looks whether the lock is still its parent's, and whoever takes the
# lock over does these two the other way round, so that one of the two sees the other.
become_sbatch() {
    [ "$so_marker" != comment ] || [ -z "$so_holding" ] || so_holding="--hold --comment=hpc:$so_token"
    process self || exit $so_UNDECIDED
    ln -sf "$so_host:$so_pid:$so_start" "$so_job/sender"
    printf '%s\n' "$so_pid" >>"$so_job/sessions"
    [ "$(readlink "$so_job/lock")" = "$so_me" ] || exit $so_UNDECIDED
    # shellcheck disable=SC2086 # options without blanks
    as_person $so_setsid sbatch --parsable $so_holding "$@"
}

# Runs sbatch, and sets id or leaves. sbatch outlives this shell, and its output goes to a file, so that a killed
# submission is found out about. With --wait in the script it prints the id and stays.
send() {
    : >"$so_job/sbatch.out"
    sync "$so_job" 2>/dev/null || sync
    become_sbatch "$@" >"$so_job/sbatch.out" 2>"$so_job/sbatch.err" &
    so_sbatch=$!
    until sent_id; do
        process "$so_sbatch" || break
        pause
    done
    sent_id || no_id
}

# sbatch has ended without an id: whether there is a job is asked, never guessed.
no_id() {
    wait "$so_sbatch"
    so_code=$?
    so_words=$(in_one_line "$so_job/sbatch.err")
    adopt && return
    [ $so_code -lt 75 ] || leave $so_UNDECIDED "sbatch ended with $so_code: $so_words"
    ! is_unreached "$so_job/sbatch.err" || leave $so_UNDECIDED "$so_words"
    rm -f "$so_job/sbatch.out"
    [ $so_code -ne 0 ] || so_words="sbatch submitted nothing: $so_words"
    leave $so_REFUSED "$so_words"
}

# ---- After it

# finish: reads the job back, clears the mark, releases exactly the recorded id. All of it may be repeated.
finish() {
    so_tries=0
    while :; do
        finish_questions | ask scontrol ${so_cluster:+-M "$so_cluster"} --oneliner >"$so_job/readback" 2>"$so_job/words"
        is_unreached "$so_job/words" || break
        so_tries=$((so_tries + 1))
        so_words="job $so_id is submitted, but not released: $(in_one_line "$so_job/words")"
        [ $so_tries -lt 3 ] || leave $so_UNDECIDED "$so_words"
    done
    so_last=
    while IFS= read -r so_line; do
        case $so_line in *' JobState='*) so_last=$so_line ;; esac
    done <"$so_job/readback"
    case $so_wish:$so_last in
    *:) say note "job $so_id could not be read back: $(in_one_line "$so_job/words")" ;;
    release:*' Reason=JobHeld'*) say note "job $so_id stays held: $(in_one_line "$so_job/words")" ;;
    *) : >"$so_job/finished" ;;
    esac
}

finish_questions() {
    printf 'show job %s\n' "$so_id"
    [ "$so_marker" != comment ] || printf 'update JobId=%s Comment=\n' "$so_id"
    [ "$so_wish" = hold ] || printf 'release %s\n' "$so_id"
    printf 'show job %s\n' "$so_id"
}

# Slurm fails a job whose output cannot be opened, and says so nowhere.
check_output() {
    so_out=${so_last##* StdOut=}
    so_out=${so_out%% [A-Z]*=*}
    case ${so_out%/*} in
    *%* | '' | [!/]*) ;;
    *) [ -d "${so_out%/*}" ] || say note "the directory of its output does not exist here: ${so_out%/*}" ;;
    esac
}

answer() {
    say job_id "$so_id"
    [ -z "$so_cluster" ] || say cluster "$so_cluster"
    [ ! -f "$so_job/readback" ] || while IFS= read -r so_line; do say readback "$so_line"; done <"$so_job/readback"
    while IFS= read -r so_line; do
        case $so_line in '#SBATCH'*) say asked "${so_line#'#SBATCH'}" ;; '#'* | '') ;; *) break ;; esac
    done <"$so_script"
    echo 'done'
}

# A sbatch --wait has nothing left to wait for here; one that is about to end is let end.
end_waiting() {
    so_tries=0
    while process "$1"; do
        so_tries=$((so_tries + 1))
        [ $so_tries -lt 20 ] || kill "$1" || return 0
        pause
    done
}

[ -d "$so_cwd" ] || leave $so_REFUSED "the working directory does not exist: $so_cwd"
read -r so_host 2>/dev/null </proc/sys/kernel/hostname || so_host=$(uname -n)
process self || leave $so_UNREACHED "/proc is not there"
so_me=$so_host:$so_pid:$so_start
so_newline='
'
so_mark=$(printf '\035')
so_environ=$(tr '\0\n' '\n\035' 2>/dev/null <"/proc/$$/environ") && [ -n "$so_environ" ] || so_environ=$(env)
so_setsid=setsid
command -v setsid >/dev/null || so_setsid=
so_cluster='' so_sbatch=''

lock
so_retried=
[ ! -e "$so_job/sbatch.out" ] || so_retried=yes
so_holding=--hold
if recorded_id; then
    so_mine=$so_id
    sent_id && [ "$so_id" = "$so_mine" ] || so_cluster='' so_id=$so_mine
elif await_sender && sent_id; then
    record
elif [ -z "$so_retried" ] || ! adopt; then
    test_only "$@"
    command -v scontrol >/dev/null || so_holding=
    send "$@"
    recorded_id || { sent_id && record; }
fi
if [ -z "$so_holding" ]; then
    say note "scontrol is missing: the job was not held until its id was safe, so a crash may have made a second one"
elif [ ! -e "$so_job/finished" ]; then
    [ -z "$so_retried" ] || cancel_copies
    finish
    check_output
fi
[ -z "$so_sbatch" ] || end_waiting "$so_sbatch"
answer
