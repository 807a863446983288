# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# Sourced by ./run and ./test: what they need from the machine, and quiet builds. V=1 shows all output.

packages_run=(gcc g++ cmake ninja-build pkg-config liburing-dev libdw-dev libelf-dev libjansson-dev)
# shellcheck disable=SC2034 # ./bench uses it: what it compares with
packages_bench=(libdpdk-dev fio libmimalloc-dev)
packages_test=("${packages_run[@]}" libcriterion-dev python3)
# shellcheck disable=SC2034 # ./test uses it
packages_ci=("${packages_test[@]}" clang libclang-rt-14-dev gcc-mingw-w64-x86-64 mingw-w64-x86-64-dev codespell shellcheck gdb
             gcc-aarch64-linux-gnu libc6-dev-arm64-cross)

die() {
    echo "$*" >&2
    exit 2
}

is_installed() {
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# Runs a command and shows its output only when it fails.
quietly() {
    local log code
    if [ "${V:-0}" = 1 ]; then
        "$@"
        return
    fi
    log=$(mktemp)
    "$@" >"$log" 2>&1
    code=$?
    [ $code = 0 ] || cat "$log" >&2
    rm -f "$log"
    return $code
}

# Installs those of the named Debian packages that are missing, or says which to install.
need_packages() {
    local package missing=() as_root=()
    command -v dpkg-query >/dev/null || die "This is not Debian. Install what these packages hold: $*"
    for package; do
        is_installed "$package" || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    [ "$(id -u)" = 0 ] || as_root=(sudo -n)
    "${as_root[@]}" true 2>/dev/null || die "Packages are missing. Please run: sudo apt-get install ${missing[*]}"
    echo "Installing ${missing[*]}"
    quietly "${as_root[@]}" apt-get update
    quietly "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}" ||
        die "apt-get failed. Please run: sudo apt-get install ${missing[*]}"
}

# Installs those of the named Debian packages that are missing, if that can be done here; says which remain missing.
try_packages() {
    local package
    (need_packages "$@") >/dev/null 2>&1
    for package; do
        is_installed "$package" || echo "$package is not installed: the rows that compare with it are left out"
    done
}

# build PRESET [TARGET...]
build() {
    local preset=$1
    shift
    quietly cmake --preset "$preset" && quietly cmake --build --preset "$preset" ${1:+--target} "$@"
}
