#!/bin/sh
# Takes a pending job back: holds it, reads it back, and cancels it only if nothing of it has a node or ever had one. A
# held job does not start, so that between the look and the cancelling nothing can happen.
#
#   sh withdraw.sh ID RESTARTS
#
# RESTARTS: so often it was requeued when that was decided; one that was requeued since has run, and stays.
# Prints one line, a word and why: taken (cancelled now; it never began), earlier (the same, but it was cancelled before),
# stays (it was let go on), absent (the scheduler does not know it), unable (no scontrol), unknown (repeating finds out).
# Slurm 20.11 to 26.05; dash, bash and busybox.
set -fu

end() {
    printf '%s %s\n' "$1" "$2"
    exit 0
}

in_one_line() { printf '%s' "$1" | tr -s '\n\r' ' '; }

# is_unreached WORDS: the controller was not reached, or its answer did not come
is_unreached() {
    printf '%s' "$1" | grep -qi -e 'unable to contact slurm controller' -e 'socket timed out' \
        -e 'zero bytes were transmitted' -e 'endpoint is not connected' -e 'connection refused' \
        -e 'connection timed out' -e 'connection reset' -e 'connection failure' -e 'standby mode' \
        -e 'unexpected message received'
}

# look: sets pending, cancelled and other to how many rows of the job are so
look() {
    pending=0 cancelled=0 other=0
    rows=$(squeue --me --all --local --noheader --states=all --jobs="$id" \
        --Format="State:$sep,NodeList:$sep,RestartCnt:$sep" 2>&1) || {
        case $rows in *'Invalid job id'*) return 0 ;; esac
        end unknown "the queue cannot be seen: $(in_one_line "$rows")"
    }
    IFS=$newline
    for row in $rows; do
        IFS=$sep
        # shellcheck disable=SC2086 # the fields are wanted one by one
        set -- $row
        IFS=$newline
        state=${1%% *} nodes=${2:-} restarts=${3:-0}
        case $nodes in '' | ' '* | 'N/A'* | '(null)'*) nodes= ;; esac
        restarts=${restarts%% *}
        if [ -n "$nodes" ] || [ "$restarts" -gt "$known_restarts" ] 2>/dev/null; then
            other=$((other + 1))
        elif [ "$state" = PENDING ]; then
            pending=$((pending + 1))
        elif [ "$state" = CANCELLED ]; then
            cancelled=$((cancelled + 1))
        else
            other=$((other + 1))
        fi
    done
}

# let_go WHY: a hold that stayed on a running job would keep it from ever being requeued
let_go() {
    words=$(scontrol release "$id" 2>&1)
    ! is_unreached "$words" || end unknown "it may still be held: $(in_one_line "$words")"
    end stays "$1"
}

id=$1
known_restarts=$2
sep=$(printf '\037')
newline='
'
command -v scontrol >/dev/null || end unable "there is no scontrol here, so it cannot be held while it is looked at"

words=$(scontrol uhold "$id" 2>&1)
held=$?
! is_unreached "$words" || end unknown "it may be held: $(in_one_line "$words")"
look
[ $((pending + cancelled + other)) -gt 0 ] || end absent "squeue does not know it"
[ $other -eq 0 ] || let_go "it has begun"
[ $pending -gt 0 ] || end earlier "it was cancelled before it began"
[ $held -eq 0 ] || let_go "it cannot be held: $(in_one_line "$words")"
words=$(scancel "$id" 2>&1) || end unknown "it is held, and cannot be cancelled: $(in_one_line "$words")"
look
[ $((pending + other)) -eq 0 ] || end unknown "it is held, and being cancelled"
end taken "it was cancelled before it began"
