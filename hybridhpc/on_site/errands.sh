# Does errands at a site, several at a time, and answers them one by one. The login shell's `sh -c` reads this text from
# standard input, to the byte; behind it stands a function that says what is to be done, then a call of it (so that half
# of it does nothing), then the contents of files and of the commands' standard inputs. See transports/errands.py.
#
# Every answer is a line `MARK WORDS`, MARK being unguessable and new each time, so that nothing else on standard output
# can be taken for one. Nothing is left behind. POSIX sh, coreutils and find; dash, bash and busybox.
#
# Standard input stays open as long as somebody listens. When it ends, questions are killed, nothing new is begun, and
# what is being done for a person (a submission) is let end.
set -fu

# say WORDS: one line of an answer
say() { printf '\n%s %s\n' "$mark" "$*"; }

# begin MARK MOST: where what commands print is kept meanwhile, MOST bytes of it
begin() {
    mark=$1 most=$2 place='' newline='
'
    own_umask=$(umask)
    umask 077
    export LC_ALL=C
    for folder in "${TMPDIR:-/tmp}" /dev/shm "${HOME:-/}"; do
        place=$(mktemp -d "$folder/hpc.XXXXXXXXXX" 2>/dev/null) && break
    done
    [ -n "$place" ] || { say "broken no directory to work in: ${TMPDIR:-/tmp} and ${HOME:-/} cannot be written" && exit 0; }
    trap 'rm -rf "$place"' EXIT
    trap 'exit 1' HUP INT PIPE TERM
    say "here ${USER:-${LOGNAME:-}} ${HOME:-}"
}

# Sets settings to the names of Slurm's own settings: with them its answers would be others. `export -p` begins a line with
# `export NAME=` (POSIX); a line within a value that looks like it names what is not there, or such a setting.
read_settings() {
    settings=
    IFS=$newline
    for line in $(export -p); do
        line=${line#export }
        name=${line%%=*}
        case $name in
        SLURM_CONF | *[!A-Za-z0-9_]*) ;;
        SQUEUE_* | SINFO_* | SACCT_* | SBATCH_* | SCONTROL_* | SLURM_*) settings="$settings$newline$name" ;;
        esac
    done
    unset -v IFS
}

# The environment of the login, to the byte: dash and busybox drop what they cannot name, like `BASH_FUNC_module%%`.
read_environment() {
    line_break=$(printf '\035')
    environ=$(tr '\0\n' '\n\035' 2>/dev/null <"/proc/$$/environ") && [ -n "$environ" ] || environ=$(env)
}

# refuse N WORDS: errand N is not begun
refuse() {
    printf '%s\n' "$2" >"$place/$1.bad" 2>/dev/null || : >"$place/$1.bad"
    [ -s "$place/$1.bad" ] || printf '%s' "no room in $place" >"$place/$1.bad" 2>/dev/null
}

# words FILE: what a program complained of, without its statistics
words() {
    said=
    while IFS= read -r line || [ -n "$line" ]; do
        case $line in *records\ in | *records\ out | *copied,*) ;; *) said="$said${said:+ }$line" ;; esac
    done <"$1"
    printf '%s' "$said"
}

# ---- Files

# make_fresh DIR...: all were missing, but for their parents, and are now there: nobody else can have seen them
make_fresh() { suffix='' && mkdir -- "$@" 2>/dev/null; }

# make_or_take SUFFIX DIR...: some were there; what is written goes beside, with this suffix, and is renamed
make_or_take() {
    suffix=$1
    shift
    mkdir -p -- "$@" 2>/dev/null
    open=$newline$(find -H "$@" -prune \( ! -user "$(id -u)" -o -perm -020 -o -perm -002 \) -print 2>/dev/null)$newline
}

# look_above DIR...: sets strange to how a stranger could exchange one of these, and so what lies below. What lies where
# everybody can make files must be mine or root's.
look_above() {
    strange=
    shared=$newline$(find -H "$@" -prune -perm -002 2>/dev/null)$newline
    [ "$shared" != "$newline$newline" ] || return 0
    for path in "$@"; do
        above=${path%/*}
        : "${above:=/}"
        [ "$path" != / ] || continue
        case $shared in *"$newline$above$newline"*) ;; *) continue ;; esac
        if [ ! -k "$above" ]; then
            strange="everybody can exchange what is in $above"
        elif [ -z "$(find "$path" -prune \( -user 0 -o -user "$(id -u)" \) 2>/dev/null)" ]; then
            strange="$path belongs to another user, where everybody can make files"
        fi
    done
}

# check_directory N DIR
check_directory() {
    [ -z "$strange" ] || refuse "$1" "$strange"
    [ -n "$suffix" ] || return 0
    if [ ! -d "$2" ]; then
        refuse "$1" "$(mkdir -p -- "$2" 2>&1)"
    elif [ ! -w "$2" ]; then
        refuse "$1" "$2 cannot be written to"
    else
        case $open in *"$newline$2$newline"*) refuse "$1" "$2 belongs to another user or can be changed by others" ;; esac
    fi
}

# take_bytes N: the next N bytes of what was sent. One block, read whole before it is written: a full disk loses no byte
# of what comes after.
take_bytes() { [ "$1" -eq 0 ] || dd bs="$1" count=1 iflag=fullblock; }

# stage_file N PATH SIZE
stage_file() {
    if [ -e "$place/$1.bad" ] || ! { printf '' >"$2$suffix"; } 2>"$place/words"; then
        take_bytes "$3" >/dev/null 2>&1
        [ -e "$place/$1.bad" ] || refuse "$1" "$(words "$place/words")"
    else
        take_bytes "$3" >>"$2$suffix" 2>"$place/words" || refuse "$1" "$2: $(words "$place/words")"
    fi
}

# write_file N PATH TEXT: a short text, which came with this program: no process is started for it
write_file() {
    [ -e "$place/$1.bad" ] || { printf '%s' "$3" >"$2$suffix"; } 2>"$place/words" || refuse "$1" "$2: $(words "$place/words")"
}

# copy_file N FROM PATH: the same content once more
copy_file() {
    [ -e "$place/$1.bad" ] || cp -- "$2$suffix" "$3$suffix" 2>"$place/words" || refuse "$1" "$(words "$place/words")"
}

# stage_input N SIZE: what the command of errand N reads
stage_input() {
    take_bytes "$2" 2>"$place/words" >"$place/$1.in" || refuse "$1" "$place: $(words "$place/words")"
}

# settle_files executable|durable PATH...
settle_files() {
    how=$1
    shift
    for path in "$@"; do
        shift
        [ ! -e "$path$suffix" ] || set -- "$@" "$path$suffix"
    done
    case $how:$# in
    *:0) ;;
    executable:*) chmod 700 -- "$@" ;;
    durable:[1-9] | durable:1[0-9]) sync "$@" 2>/dev/null || sync ;;
    durable:*) sync -f "$1" 2>/dev/null || sync ;;
    esac
}

# name_files N PATH...: they get their names, all at once to whoever looks; or go, if the errand is not done
name_files() {
    number=$1
    shift
    for path in "$@"; do
        if [ -e "$place/$number.bad" ]; then
            rm -f -- "$path$suffix"
        elif [ -n "$suffix" ]; then
            mv -f -- "$path$suffix" "$path" 2>"$place/words" || refuse "$number" "$(words "$place/words")"
        fi
    done
}

# all_here: every byte has come. From now on standard input only says whether somebody listens.
all_here() {
    IFS= read -r line || line=
    [ "$line" = "$mark" ] || { say "broken what was sent did not arrive whole" && exit 0; }
    exec 3<&0 </dev/null
    watch <&3 >/dev/null 2>&1 &
    watcher=$!
}

watch() {
    trap - EXIT
    while IFS= read -r line; do :; done
    : >"$place/cut"
    set +f
    for file in "$place"/*.pid; do
        read -r pid whose <"$file" || continue
        [ "$whose" = person ] || kill -KILL "-$pid"
    done
}

# ---- Commands

# do_errand N LIMIT question|person HIDDEN CWD PROGRAM NAME=VALUE... PROGRAM ARGS...; HIDDEN is `,NAME,NAME,` or empty
do_errand() {
    number=$1 limit=$2 whose=$3 input=/dev/null
    shift 2
    [ ! -e "$place/cut" ] || return 0
    [ ! -e "$place/$number.in" ] || input=$place/$number.in
    if [ -e "$place/$number.bad" ] || ! { printf '' >"$place/$number.out"; } 2>/dev/null; then
        echo "$number bad"
        return
    fi
    (become "$@") <"$input" >"$place/$number.out" 2>"$place/$number.err" &
    pid=$!
    { echo "$pid $whose" >"$place/$number.pid"; } 2>/dev/null
    wait "$pid"
    code=$?
    case $code in 124 | 137 | 143) ! is_late || code=late ;; esac
    [ ! -e "$place/$number.bad" ] || code=bad
    # A command need not notice that what it printed found no room.
    { printf . >"$place/$number.room"; } 2>/dev/null || code=full
    echo "$number $code"
}

# become question|person HIDDEN CWD PROGRAM NAME=VALUE... PROGRAM ARGS...: a person's command has the environment of the
# login to the byte; for a question of ours it will do as this shell hands it on, which saves a process.
become() {
    whose=$1 hidden=$2 cwd=$3 program=$4
    shift 4
    trap - EXIT HUP INT PIPE TERM
    umask "$own_umask"
    [ -z "$cwd" ] || cd -- "$cwd" 2>/dev/null || give_up "$cwd: no such directory"
    command -v "$program" >/dev/null 2>&1 || give_up "$program: not found (PATH is ${PATH:-empty})"
    IFS=$newline
    [ "$whose" = person ] || ask "$@"
    for line in $environ; do
        name=${line%%=*}
        case $hidden in *",$name,"*) drop "$name" && continue ;; esac
        case $name in PWD) [ -z "$cwd" ] || line=PWD=$cwd ;; esac
        ! keeps "$name" || continue
        while :; do
            case $line in *"$line_break"*) ;; *) break ;; esac
            line=${line%%"$line_break"*}$newline${line#*"$line_break"}
        done
        case $line in [!=-]*=*) set -- "$line" "$@" ;; esac
    done
    exec timeout -k 1 "$limit" env -u _ -u IFS -u PWD -u OLDPWD -u SHLVL -u LC_ALL "$@"
}

# ask NAME=VALUE... PROGRAM ARGS...
ask() {
    IFS=,$newline
    for name in $settings $hidden; do drop "$name"; done
    while :; do
        # shellcheck disable=SC2163 # it is NAME=VALUE
        case $1 in [A-Z_]*=*) export "$1" && shift ;; *) break ;; esac
    done
    # An endless answer must not fill the disk; a submission's limits would be its job's.
    ulimit -f $((most / 512 + 1))
    exec timeout -k 1 "$limit" "$@"
}

# drop NAME: the shell does not hand it on
drop() {
    case $1 in '' | [0-9]* | *[!A-Za-z0-9_]*) ;; *) unset -v "$1" ;; esac
}

# keeps NAME: the shell hands it on by itself, as it was. That is all but what a shell changes or cannot name and what we
# use here: these are set by env, in arguments, which everybody can read.
keeps() {
    case $1 in
    _ | IFS | LC_ALL | *PWD | SHLVL | OPT[AIE]* | LINENO | PPID | UID | EUID | BASH* | SHELLOPTS) return 1 ;;
    FUNCNAME | GROUPS | DIRSTACK | HISTCMD | RANDOM | SRANDOM | SECONDS | EPOCH* | PIPESTATUS) return 1 ;;
    text_* | mark | most | place | newline | own_umask | folder | line | line_break | environ | said | suffix | open | how) return 1 ;;
    n | p | strange | shared | above | path | number | limit | whose | input | pid | code | hidden | cwd | program | name | worker | watcher | file) return 1 ;;
    '' | [0-9]* | *[!A-Za-z0-9_]*) return 1 ;;
    esac
}

# give_up WORDS: it cannot be begun
give_up() {
    refuse "$number" "$1"
    exit 125
}

# is_late: it was ended for its time, not by somebody else; what it has started goes with it
is_late() {
    : >"$place/$number.now"
    # shellcheck disable=SC2046 # two numbers
    set -- $(stat -c %Y "$place/$number.now" "$place/$number.pid")
    [ $(($1 - ${2:-0})) -ge "${limit%.*}" ] || return 1
    kill -KILL "-$pid" 2>/dev/null || :
}

# do_all HOW_MANY: so many workers side by side, which have their errands from `work`
do_all() {
    {
        worker=0
        while [ $worker -lt "$1" ]; do
            work $worker &
            worker=$((worker + 1))
        done
        wait
    } | while IFS=' ' read -r number code; do
        say "out $number"
        show "$number.out"
        say "err $number"
        show "$number.err"
        say "bad $number"
        show "$number.bad"
        say "end $number $code"
    done
    say 'done'
    kill "$watcher" 2>/dev/null || :
}

show() { [ ! -s "$place/$1" ] || head -c $((most + 1)) "$place/$1"; }
