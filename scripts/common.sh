# shellcheck shell=sh
# What the scripts beside this file share; sourced, not run.

say() {
    printf '\n== %s\n' "$*"
}

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

has() {
    command -v "$1" >/dev/null 2>&1
}

# need TOOL PACKAGE: installs the Debian package that brings the tool if it is missing and we are root, else
# says how to get it.
need() {
    has "$1" && return
    install_package "$2"
    has "$1" || die "'$1' is missing: install it (Debian: sudo apt-get install $2)"
}

# install_package PACKAGE: if we are root and this is Debian.
install_package() {
    if [ "$(id -u)" = 0 ] && has apt-get; then
        say "installing $1"
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$1" </dev/null
    fi
}

need_rust() {
    if ! has cargo && [ -x "${HOME:-/root}/.cargo/bin/cargo" ]; then
        PATH="${HOME:-/root}/.cargo/bin:$PATH"
        export PATH
    fi
    if ! has cargo; then
        need curl curl
        say "installing Rust with rustup"
        curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs -o "${TMPDIR:-/tmp}/rustup-init.$$" &&
            sh "${TMPDIR:-/tmp}/rustup-init.$$" -y --profile minimal --no-modify-path >&2 || true
        rm -f "${TMPDIR:-/tmp}/rustup-init.$$"
        PATH="${CARGO_HOME:-${HOME:-/root}/.cargo}/bin:$PATH"
        export PATH
    fi
    has cargo || die "'cargo' is missing: install Rust (https://rustup.rs), then run this again"
    # the bundled SQLite and the compression libraries are C
    need cc build-essential
}

# need_component SUBCOMMAND COMPONENT: a part of the Rust toolchain.
need_component() {
    cargo "$1" --version >/dev/null 2>&1 && return
    has rustup && rustup component add "$2"
    cargo "$1" --version >/dev/null 2>&1 || die "'cargo $1' is missing: install it with 'rustup component add $2'"
}
