# Shared by scripts/demo and scripts/test: what the machine needs, and Docker's daemon.
# shellcheck shell=bash

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Servers are not on the path of an ordinary user.
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

fail() {
    printf '%s\n' "$@" >&2
    exit 1
}

as_root() {
    if ((EUID == 0)); then "$@"; else sudo "$@"; fi
}

# --- packages -----------------------------------------------------------------------------------

MISSING=()

# need PACKAGE WHY TEST...: the package is missing unless the test succeeds.
need() {
    local package=$1 why=$2
    shift 2
    "$@" >/dev/null 2>&1 && return
    ((${#MISSING[@]})) || echo "Missing from this machine:"
    printf '  %-17s %s\n' "$package" "$why"
    MISSING+=("$package")
}

any_file() { compgen -G "$1"; }

is_static_busybox() { [[ -x /bin/busybox ]] && ! ldd /bin/busybox; }

has_docker() { docker_answers || { command -v dockerd && command -v docker; }; }

needs_no_apparmor() {
    [[ $(cat /sys/module/apparmor/parameters/enabled) != Y ]] || command -v apparmor_parser
}

need_all() {
    need build-essential "a linker and a C compiler, for the Rust build" command -v cc
    need ca-certificates "the certificate authorities that TLS trusts" test -e /etc/ssl/certs/ca-certificates.crt
    need postgresql "the database server that \`platform up\` runs" any_file '/usr/lib/postgresql/*/bin/postgres'
    need docker.io "Docker Engine, which runs the sessions' containers" has_docker
    [[ ! -e /sys/module/apparmor/parameters/enabled ]] ||
        need apparmor "Docker loads its profile with it" needs_no_apparmor
    need busybox-static "the programs in the image of the sessions" is_static_busybox
    need openssh-client "plain ssh, to sign in with" command -v ssh
    need rsyslog "a syslog server, to receive a log drain" command -v rsyslogd
    need rsyslog-openssl "its TLS" any_file '/usr/lib/*/rsyslog/lmnsd_ossl.so'
}

# Installs what `need` has found missing.
install_missing() {
    ((${#MISSING[@]})) || return 0
    local command="apt-get install --no-install-recommends ${MISSING[*]}"
    command -v apt-get >/dev/null || fail "This is no Debian: install these with your system's tool."
    if ((EUID != 0)) && ! command -v sudo >/dev/null; then
        fail "There is neither root nor sudo here. As root, run:" "  $command"
    fi
    echo "Installing them: $command"
    as_root sh -eu -s "${MISSING[@]}" <<'AS_ROOT' || fail "The installation failed. Its last lines are above."
# Packages must not start servers: only those that the scripts start are wanted, and only for a while.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
fi
log=$(mktemp)
export DEBIAN_FRONTEND=noninteractive
{ apt-get update && apt-get install --yes --no-install-recommends "$@"; } >"$log" 2>&1 </dev/null || {
    tail -n 20 "$log" >&2
    rm -f "$log"
    exit 1
}
rm -f "$log"
AS_ROOT
    MISSING=()
}

# --- Docker -------------------------------------------------------------------------------------

docker_answers() { timeout 20 docker version; }

# ensure_docker FOLDER [FLAG...]: starts the daemon, with its files in FOLDER, if none answers.
ensure_docker() {
    local folder=$1 answer
    shift
    answer=$(docker_answers 2>&1) && return
    if [[ $answer == *"permission denied"* ]]; then
        fail "Docker runs, but this user may not use it. Run: sudo usermod -aG docker $USER" \
            "and then log in again."
    fi
    if ((EUID != 0)) && ! command -v sudo >/dev/null; then
        fail "No Docker daemon answers, and only root can start one."
    fi
    echo "No Docker daemon answers: starting one, with its files in $folder"
    mkdir -p "$folder"
    local file
    for file in /sys/class/net/docker0 /etc/docker/key.json /etc/docker /opt/containerd \
        /run/containerd /run/docker; do
        [[ -e $file ]] || echo "$file"
    done >"$folder/made"
    # setsid: Ctrl-C is for the script, which then stops the daemon in order.
    as_root setsid dockerd --data-root "$folder/data" --exec-root "/run/spillway-docker-$$" \
        --pidfile "$folder/pid" --group "$(id -gn)" --ip-forward=false "$@" \
        >"$folder/log" 2>&1 </dev/null &
    echo "/run/spillway-docker-$$" >"$folder/exec-root"
    local attempt
    for ((attempt = 0; attempt < 150; attempt++)); do
        docker_answers >/dev/null 2>&1 && return
        sleep 0.2
    done
    tail -n 20 "$folder/log" >&2
    fail "The Docker daemon did not start; its log is $folder/log."
}

# release_docker FOLDER: stops the daemon that `ensure_docker FOLDER` has started, if it has, and
# removes what it has made.
release_docker() {
    local folder=$1 pid made
    [[ -e $folder/made ]] || return 0
    if pid=$(cat "$folder/pid" 2>/dev/null); then
        as_root kill "$pid" 2>/dev/null || true
        wait_for_end "$pid" 30 || as_root kill -KILL "$pid" 2>/dev/null || true
    fi
    local exec_root
    exec_root=$(cat "$folder/exec-root")
    as_root find "$exec_root" -path '*/netns/*' -exec umount {} \; 2>/dev/null || true
    as_root rm -rf "$exec_root"
    while read -r made; do
        case $made in
            /sys/class/net/docker0)
                as_root busybox ip link set docker0 down 2>/dev/null || true
                as_root busybox brctl delbr docker0 2>/dev/null || true
                ;;
            /etc/docker/key.json) as_root rm -f "$made" ;;
            *) [[ ! -d $made ]] || as_root find "$made" -depth -type d -empty -delete ;;
        esac
    done <"$folder/made"
    as_root rm -rf "$folder"
}

# wait_for_end PID SECONDS
wait_for_end() {
    local tenth
    for ((tenth = 0; tenth < $2 * 10; tenth++)); do
        [[ -e /proc/$1 ]] || return 0
        sleep 0.1
    done
    return 1
}
