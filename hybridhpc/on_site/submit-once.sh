#!/bin/sh
# Submits one job to Slurm once, however often it is run and wherever it is killed: the job is submitted held, its id is
# written down durably, and only the job with that id is released. What it has done lies beside it, in its directory DIR.
#
#   HPC_JOB_DIR=DIR sh submit-once.sh MARKER hold|release CWD SCRIPT  OPTIONS... SCRIPT ARGS...
#   sh submit-once.sh lot [COUNT  DIR MARKER test|trust CWD SCRIPT  OPTIONS... SCRIPT ARGS...]...
#
# MARKER says how the job is found if its id was lost: path (its script lies in DIR) or session (of its script's jobs, the
# one sent from a session that an sbatch of ours led). sbatch gets the last group as it is, in CWD.
# Prints KEY=VALUE lines and, if all went well, `done`. Exit codes: 0 submitted, 65 refused, 69 not reached (of both:
# nothing was submitted), 75 undecided (repeating finds out). Slurm 20.11 to 26.05; dash, bash and busybox.
#
# A lot is several jobs, COUNT words for each; `trust`: one that asks for the same was just accepted, and the scheduler's
# opinion is not asked. Each stays held until the ids of all are durable; then all are released and read back in one go.
# The answer to each ends with `end=EXIT_CODE`; behind the line `readback` is what scontrol said. A job that is not seen
# there to be free is to be submitted again by itself, which is harmless.
#
# In DIR, try.N is the claim to be the N-th sbatch, which one process can make; want.N:PROCESS says before who might have
# made it, won.N:PROCESS afterwards who did. out.N and err.N are what that sbatch said, over.N that it has ended. got.ID is
# an id that was given, and id holds the one that counts, the first; finished says that nothing is left to do. Files are
# made by the shell itself: a process for each (`ln`) takes longer than all else but sbatch.
# Variables have a prefix, since assigning to one that the person exports would change the job's environment.
set -fu
readonly so_REFUSED=65 so_UNREACHED=69 so_UNDECIDED=75 so_PATIENCE=1500

so_umask=$(umask)
umask 077

say() { printf '%s=%s\n' "$1" "$2"; }

# leave EXIT_CODE WORDS
leave() {
    say words "$2"
    exit "$1"
}

# leave_unreached EXIT_CODE WORDS: the next job would not reach the controller either
leave_unreached() {
    say unreached ''
    leave "$@"
}

# in_one_line FILE: its words, without what would break the answer
in_one_line() { tr -s '\n\r' ' ' <"$1"; }

pause() { sleep 0.01 2>/dev/null || sleep 1; }

# ---- Commands and their environment

# read_environment: sets so_environ to the environment that this shell was started with, to the byte, a line each, and
# so_changed to what a shell changes (bash counts itself) or drops (dash and busybox what they cannot name, like
# `BASH_FUNC_module%%`). All else it hands on by itself.
read_environment() {
    so_environ=$(tr '\0\n' '\n\035' 2>/dev/null <"/proc/$$/environ") && [ -n "$so_environ" ] || so_environ=$(env)
    so_changed=
    IFS=$so_newline
    for so_line in $so_environ; do
        case ${so_line%%=*} in
        _ | IFS | *PWD | SHLVL | OPT[AIE]* | LINENO | PPID | UID | EUID | BASH* | SHELLOPTS | so_*) ;;
        FUNCNAME | GROUPS | DIRSTACK | HISTCMD | RANDOM | SRANDOM | SECONDS | EPOCH* | PIPESTATUS) ;;
        '' | [0-9]* | *[!A-Za-z0-9_]*) ;;
        *) continue ;;
        esac
        case $so_line in [!=-]*=*) so_changed=$so_changed$so_newline$so_line ;; esac
    done
    unset -v IFS
}

# in_environment COMMAND...: in the person's environment as it is. Only what must be is set by env, since arguments are
# for everybody to read.
in_environment() {
    IFS=$so_newline
    for so_line in $so_changed; do
        case $so_line in PWD=*) [ -z "$so_moved" ] || so_line=PWD=$so_cwd ;; esac
        while :; do
            case $so_line in *"$so_mark"*) ;; *) break ;; esac
            so_line=${so_line%%"$so_mark"*}$so_newline${so_line#*"$so_mark"}
        done
        set -- "$so_line" "$@"
    done
    exec env -u _ -u IFS -u PWD -u OLDPWD -u SHLVL "$@"
}

# ask COMMAND...: a question to the scheduler, without Slurm's own settings, which would hide jobs
ask() (
    IFS=$so_newline
    for so_line in $so_environ; do
        so_name=${so_line%%=*}
        case $so_name in
        *[!A-Za-z0-9_]* | SLURM_CONF) ;;
        SLURM_* | SQUEUE_* | SINFO_* | SCONTROL_* | SCANCEL_*) unset -v "$so_name" ;;
        esac
    done
    export SLURM_BITSTR_LEN=0 SLURM_TIME_FORMAT=%s TZ=UTC LC_ALL=C TERM=dumb
    exec "$@"
)

# as_person COMMAND...: with the person's umask, directory and environment
as_person() {
    umask "$so_umask"
    so_moved=
    # shellcheck disable=SC3013 # dash, bash and busybox have it
    [ . -ef "$so_cwd" ] || { cd -- "$so_cwd" && so_moved=yes; } || exit $so_REFUSED
    in_environment "$@" </dev/null
}

# is_unreached FILE: the words in it say that the controller was not reached, or that its answer did not come
is_unreached() {
    [ -s "$1" ] || return 1
    grep -qi -e 'unable to contact slurm controller' -e 'socket timed out' -e 'zero bytes were transmitted' \
        -e 'endpoint is not connected' -e 'connection refused' -e 'connection timed out' -e 'connection reset' \
        -e 'connection failure' -e 'standby mode' -e 'could not establish a configuration' \
        -e 'unexpected message received' "$1"
}

# ---- Processes: known again by host, pid and start time (proc(5), fields 1, 3 and 22 of stat)

# process PID|self: sets so_pid and so_start; false if there is none, or only what its parent has not collected
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

# processes KIND N: sets so_processes to what the names KIND.N:HOST:PID:START say; `*` for any N
processes() {
    so_processes=
    set +f
    # shellcheck disable=SC2086 # a pattern
    set -- "$so_job/$1."$2:*
    set -f
    for so_file; do
        so_file=${so_file##*/}
        case $so_file in *:\*) ;; *) so_processes="$so_processes ${so_file#*:}" ;; esac
    done
}

# ---- The id: ID, or ID;CLUSTER where a cluster was named

# claim FILE: makes it, which one process can
claim() {
    set -C
    { true >"$1"; } 2>/dev/null
    set -- $?
    set +C
    return "$1"
}

# recorded_id: sets so_id to the one that counts
recorded_id() {
    so_id=
    [ -e "$so_job/id" ] || return 1
    IFS= read -r so_id <"$so_job/id" && return
    # Whoever made it was cut off before it was filled, or there was no room.
    set +f
    set -- "$so_job/got."*
    set -f
    [ $# -eq 1 ] || leave $so_UNDECIDED "$# jobs were accepted, and which counts was not written down: see $so_job/got.*"
    so_id=
    [ ! -e "$1" ] || so_id=${1##*/got.}
    [ -n "$so_id" ]
}

# sent_id N: the id that the N-th sbatch has printed; a line without end is none
sent_id() {
    so_id=
    [ -s "$so_job/out.$1" ] || return 1
    while IFS= read -r so_line; do
        case ${so_line%%;*} in '' | *[!0-9]*) ;; *) so_id=$so_line ;; esac
    done <"$so_job/out.$1"
    [ -n "$so_id" ]
}

make_durable() { sync "$so_job/id" "$so_job" 2>/dev/null || sync; }

# Writes so_id down so that it is there after a power cut; a lot does that once for all. The first one written stays; a
# later one never ran.
record() {
    so_mine=$so_id
    { true >"$so_job/got.$so_mine"; } 2>/dev/null
    ! claim "$so_job/id" || { printf '%s\n' "$so_mine" >"$so_job/id"; } 2>/dev/null
    recorded_id || leave $so_UNDECIDED "job $so_mine is submitted and held, but $so_job/id cannot be written"
    [ "$so_id" = "$so_mine" ] || ask scancel "${so_mine%%;*}"
    [ -n "$so_lot" ] || make_durable
    return 0
}

# ---- Finding a job whose id was lost; it is held, since only a recorded one is released

# look: sets so_found to the ids of my held jobs (priority 0) that carry the mark; false if that cannot be asked
look() {
    so_found=
    so_sep=$(printf '\037')
    so_fields="JobArrayID:$so_sep,PriorityLong:$so_sep,AllocSID:$so_sep,Command:$so_sep"
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

# carries_mark SESSION COMMAND, with separators between and behind
carries_mark() {
    # 22.05 shows the arguments, too.
    case ${1#*"$so_sep"} in "$so_script$so_sep"* | "$so_script "*) ;; *) return 1 ;; esac
    [ "$so_marker" = path ] || is_session "${1%%"$so_sep"*}"
}

# is_session ID: one of our sbatch processes led this session
is_session() {
    processes won '*'
    case "$so_processes " in *:"$1":*) return 0 ;; esac
    return 1
}

# adopt: takes up the job that carries the mark, if there is one; other held ones are copies that never ran
adopt() {
    look || leave_unreached $so_UNDECIDED "whether it was submitted cannot be asked now: $(in_one_line "$so_job/look.err")"
    # shellcheck disable=SC2086 # ids, divided by blanks
    set -- $so_found
    [ $# -gt 0 ] || return 1
    [ $# -eq 1 ] || [ "$so_marker" != session ] || leave $so_UNDECIDED "several held jobs may be this one: $*"
    so_id=$1
    record
    say note "its id was lost and has been found again"
}

# Held copies beside the recorded job: what an answer that came too late can leave.
cancel_copies() {
    look || return 0
    for so_copy in $so_found; do
        [ "$so_copy" = "${so_id%%;*}" ] || case $so_marker in
        session) say note "held job $so_copy may be a copy that never ran" ;;
        *) ask scancel "$so_copy" ;;
        esac
    done
}

# ---- Submitting

# submit ARGS...: sets so_id, or leaves
submit() {
    so_n=1
    so_tested=$so_trusted
    while :; do
        while [ -e "$so_job/try.$so_n" ]; do
            so_retried=yes
            await_end $so_n
            sent_id $so_n && record && return
            so_n=$((so_n + 1))
        done
        [ -z "$so_retried" ] || ! adopt || return
        [ -n "$so_tested" ] || test_only "$@"
        so_tested=yes
        send "$@" && return
        [ -e "$so_job/try.$so_n" ] || leave $so_UNREACHED "$so_job cannot be written to"
    done
}

# await_end N: until the N-th sbatch has said an id or has ended. It may have outlived who started it.
await_end() {
    so_times=0
    until sent_id "$1" || [ -e "$so_job/over.$1" ] || ! may_live "$1"; do
        so_times=$((so_times + 1))
        [ $so_times -lt $so_PATIENCE ] || leave $so_UNDECIDED "an earlier sbatch has not come back:$so_processes"
        pause
    done
}

# may_live N: a process that may be the N-th sbatch is at work
may_live() {
    processes want "$1"
    for so_owner in $so_processes; do
        alive "$so_owner"
        case $? in
        0) return 0 ;;
        # What another host does cannot be seen; sbatch gives up long before that.
        2) [ -n "$(find "$so_job/try.$1" -prune -mmin +15 2>/dev/null)" ] || return 0 ;;
        esac
    done
    return 1
}

# The scheduler's opinion first: a held job is accepted where a plain one would be refused.
test_only() {
    (as_person sbatch --test-only "$@") >"$so_job/test.out" 2>"$so_job/test.err" && return
    so_code=$?
    so_words=$(in_one_line "$so_job/test.err")
    # Who was killed has not said no.
    [ $so_code -lt 128 ] || leave $so_UNREACHED "sbatch --test-only ended with $so_code: $so_words"
    is_unreached "$so_job/test.err" && leave_unreached $so_UNREACHED "$so_words"
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

# send ARGS...: the so_n-th sbatch; false if another process was first with that number. sbatch outlives this shell and
# writes to a file, so that a submission that was cut can be found out about.
send() {
    become_sbatch "$@" &
    so_sbatch=$!
    if may_wait "$@"; then
        until sent_id $so_n; do
            process $so_sbatch || break
            pause
        done
        sent_id $so_n && record && return
    fi
    wait $so_sbatch
    so_code=$?
    sent_id $so_n && record && return
    [ $so_code -ne $so_UNDECIDED ] || is_session "$so_sbatch" || return 1
    : >"$so_job/over.$so_n"
    no_id
}

become_sbatch() {
    process self || exit $so_UNDECIDED
    so_owner=$so_host:$so_pid:$so_start
    { true >"$so_job/want.$so_n:$so_owner"; } 2>/dev/null && claim "$so_job/try.$so_n" &&
        { true >"$so_job/won.$so_n:$so_owner"; } 2>/dev/null || exit $so_UNDECIDED
    exec >"$so_job/out.$so_n" 2>"$so_job/err.$so_n"
    [ -z "$so_hold" ] || set -- --hold "$@"
    # shellcheck disable=SC2086 # a word or none
    as_person $so_setsid sbatch --parsable "$@"
}

# may_wait ARGS...: --wait may have been asked for, and sbatch stays after it has printed the id. Better too often than
# too seldom: then its output is watched.
may_wait() {
    case $so_newline$so_environ in *"${so_newline}SBATCH_WAIT="*) return 0 ;; esac
    for so_word; do
        [ "$so_word" != "$so_script" ] || break
        case $so_word in --wait* | -[!-]*W* | -W*) return 0 ;; esac
    done
    case $so_asked in *--wait* | *[!A-Za-z0-9]-[A-Za-z]*W* | *[!A-Za-z0-9]-W*) return 0 ;; esac
    return 1
}

# sbatch has ended without an id: whether there is a job is asked, never guessed.
no_id() {
    adopt && return
    so_words=$(in_one_line "$so_job/err.$so_n")
    [ $so_code -lt $so_UNDECIDED ] || leave $so_UNDECIDED "sbatch ended with $so_code: $so_words"
    ! is_unreached "$so_job/err.$so_n" || leave_unreached $so_UNDECIDED "$so_words"
    [ $so_code -ne 0 ] || so_words="sbatch submitted nothing: $so_words"
    leave $so_REFUSED "$so_words"
}

# ---- After it

# finish: reads the job back and releases exactly the recorded id. All of it may be repeated.
finish() {
    so_questions="show job ${so_id%%;*}"
    [ "$so_wish" = hold ] || so_questions="$so_questions${so_newline}release ${so_id%%;*}"
    case $so_id in *\;*) set -- -M "${so_id#*;}" ;; *) set -- ;; esac
    so_times=0
    while :; do
        ask scontrol "$@" --oneliner >"$so_job/readback" 2>"$so_job/words" <<EOF
$so_questions
show job ${so_id%%;*}
EOF
        is_unreached "$so_job/words" || break
        so_times=$((so_times + 1))
        so_words="job $so_id is submitted, but not released: $(in_one_line "$so_job/words")"
        [ $so_times -lt 3 ] || leave $so_UNDECIDED "$so_words"
    done
    judge
}

# judge: what the last answer about the job says
judge() {
    so_last=
    while IFS= read -r so_line; do
        case $so_line in *' JobState='*) so_last=$so_line ;; esac
    done <"$so_job/readback"
    case $so_wish:$so_last in
    *:) say note "job $so_id could not be read back: $(in_one_line "$so_job/words")" ;;
    release:*' Reason=JobHeld'*) say note "job $so_id stays held: $(in_one_line "$so_job/words")" ;;
    *) : >"$so_job/finished" ;;
    esac
    output_directory "$so_last"
    [ -z "$so_out" ] || say note "the directory of its output does not exist here: $so_out"
}

# output_directory LINE: so_out, where a job that scontrol shows would write and cannot; empty if it can, or nobody knows.
# Slurm fails a job whose output cannot be opened, and says so nowhere.
output_directory() {
    so_out=${1##* StdOut=}
    so_out=${so_out%% [A-Z]*=*}
    so_out=${so_out%/*}
    case $so_out in
    *%* | '' | [!/]*) so_out='' ;;
    *) [ ! -d "$so_out" ] || so_out='' ;;
    esac
}

# Collects the script's own options into so_asked, a line each.
read_script() {
    so_asked=
    while IFS= read -r so_line; do
        case $so_line in
        '#SBATCH'*) so_asked=$so_asked${so_newline}asked=${so_line#'#SBATCH'} ;;
        '#'* | '') ;;
        *) break ;;
        esac
    done <"$so_script"
}

answer() {
    say job_id "${so_id%%;*}"
    case $so_id in *\;*) say cluster "${so_id#*;}" ;; esac
    [ -z "$so_hold" ] || say held ''
    [ ! -f "$so_job/readback" ] || while IFS= read -r so_line; do say readback "$so_line"; done <"$so_job/readback"
    printf '%s\ndone\n' "$so_asked"
}

# An sbatch --wait has nothing left to wait for here; one that is about to end is let end.
end_waiting() {
    so_times=0
    while process "$1"; do
        so_times=$((so_times + 1))
        [ $so_times -lt 20 ] || kill "$1" || return 0
        pause
    done
}

# ---- One job, or several

# once MARKER hold|release CWD SCRIPT OPTIONS... SCRIPT ARGS...
once() {
    so_marker=$1 so_wish=$2 so_cwd=$3 so_script=$4
    shift 4
    [ -d "$so_cwd" ] || leave $so_REFUSED "the working directory does not exist: $so_cwd"
    [ -w "$so_job" ] || leave $so_UNREACHED "$so_job cannot be written to"
    [ -r "$so_script" ] || leave $so_REFUSED "the script cannot be read: $so_script"
    so_setsid=setsid so_retried='' so_sbatch=''
    [ "$so_marker" = session ] && command -v setsid >/dev/null || so_setsid=
    read_script
    if recorded_id; then
        so_retried=yes
        # Who wrote it down may have been cut off before it was on the disk.
        make_durable
    else
        submit "$@"
    fi
    if [ -z "$so_hold" ]; then
        say note "scontrol is missing: the job was not held until its id was safe, so a crash may have made a second one"
    elif [ -z "$so_lot" ] && [ ! -e "$so_job/finished" ]; then
        [ -z "$so_retried" ] || cancel_copies
        finish
    fi
    [ -z "$so_sbatch" ] || end_waiting "$so_sbatch"
    answer
}

# lot [COUNT DIR MARKER test|trust CWD SCRIPT OPTIONS... SCRIPT ARGS...]...
lot() {
    so_lot=yes so_stop='' so_first='' so_questions=''
    while [ $# -gt 0 ]; do
        so_said=$(one_of "$@")
        so_code=$?
        printf '%s\nend=%s\n' "$so_said" "$so_code"
        so_said=$so_newline$so_said
        case $so_code:$so_said in
        *"${so_newline}unreached="*) so_stop=yes ;;
        *"${so_newline}cluster="*) ;;
        0:*"${so_newline}job_id="*)
            so_id=${so_said#*"${so_newline}job_id="}
            so_id=${so_id%%"$so_newline"*}
            so_first=${so_first:-$2}
            so_questions="$so_questions${so_newline}release $so_id${so_newline}show job $so_id"
            ;;
        esac
        shift $(($1 + 1))
    done
    [ -z "$so_stop" ] && [ -n "$so_hold" ] && [ -n "$so_first" ] || return 0
    release
}

# one_of COUNT WORDS...: the job of which the first so many words tell; once the controller was not reached, none is begun
one_of() {
    so_count=$1
    shift
    so_others=$(($# - so_count))
    # They go behind the others, which are then dropped.
    while [ "$so_count" -gt 0 ]; do
        set -- "$@" "$1"
        shift
        so_count=$((so_count - 1))
    done
    shift $so_others
    so_job=$1 HPC_JOB_DIR=$1 so_marker=$2
    export HPC_JOB_DIR
    [ "$3" = test ] || so_trusted=yes
    shift 3
    so_words="the controller was not reached for another job: this one was not begun"
    [ -z "$so_stop" ] || [ ! -e "$so_job/try.1" ] || leave $so_UNDECIDED "$so_words now"
    [ -z "$so_stop" ] || leave $so_UNREACHED "$so_words"
    once "$so_marker" release "$@"
}

# release: makes all ids durable, then does what so_questions say, and names directories of outputs that are missing
release() {
    sync -f "$so_first" 2>/dev/null || sync
    echo readback
    ask scontrol --oneliner 2>&1 <<EOF | with_missing
${so_questions#"$so_newline"}
EOF
    return 0
}

# with_missing: passes on what scontrol shows, and behind it the directories that outputs want and that do not exist
with_missing() {
    so_missing=$so_newline
    while IFS= read -r so_line; do
        printf '%s\n' "$so_line"
        case $so_line in *' StdOut='*) ;; *) continue ;; esac
        output_directory "$so_line"
        case $so_missing in
        *"$so_newline$so_out$so_newline"*) ;;
        *) [ -z "$so_out" ] || so_missing=$so_missing$so_out$so_newline ;;
        esac
    done
    [ "$so_missing" = "$so_newline" ] || printf 'missing%s' "$so_missing"
}

read -r so_host 2>/dev/null </proc/sys/kernel/hostname || so_host=$(uname -n)
so_newline='
'
so_mark=$(printf '\035')
so_lot='' so_trusted='' so_hold=yes
read_environment
command -v scontrol >/dev/null || so_hold=
if [ "$1" = lot ]; then
    shift
    lot "$@"
else
    so_job=$HPC_JOB_DIR
    once "$@"
fi
