# shellcheck shell=bash
# What the scripts share: messages, and making sure that the machine can build Meshgate.
# Source it from a bash script that has set -euo pipefail and stands in the repository.

readonly RUST_MINIMUM=1.95

say() {
  printf '%s\n' "$*" >&2
}

die() {
  say "error: $*"
  exit 1
}

# Checks for everything a build needs, and installs what the system's packages can give.
# Arguments are further Debian packages that are known to be missing.
require_build_tools() {
  require_packages "$@"
  require_rust
}

# Names the Debian packages that are missing for the end-to-end tests.
missing_test_packages() {
  has chromium || echo chromium
  has haproxy || [[ -x /usr/sbin/haproxy ]] || echo haproxy
}

# Collects the Debian packages that are missing; with root installs them, else prints the command.
require_packages() {
  local missing=("$@")
  can_compile || missing+=(gcc libc6-dev)
  has make || missing+=(make)
  has cmake || missing+=(cmake)
  has curl || missing+=(curl)
  [[ -e /etc/ssl/certs/ca-certificates.crt || -n ${SSL_CERT_FILE:-} ]] || missing+=(ca-certificates)
  ((${#missing[@]})) || return 0

  if ! has apt-get; then
    die "a C compiler with headers, make, cmake, curl and CA certificates are needed." \
      "On Debian these are missing: ${missing[*]}"
  fi
  if ((EUID != 0)); then
    say "These Debian packages are missing: ${missing[*]}. Install them and start again:"
    say ""
    say "  sudo apt-get update && sudo apt-get install -y --no-install-recommends ${missing[*]}"
    say ""
    exit 1
  fi
  say "Installing ${missing[*]} ..."
  local log
  log=$(mktemp)
  if ! install_packages "${missing[@]}" >"$log" 2>&1; then
    cat "$log" >&2
    rm -f "$log"
    die "the packages could not be installed: ${missing[*]}"
  fi
  rm -f "$log"
}

install_packages() {
  export DEBIAN_FRONTEND=noninteractive
  apt-get update && apt-get install -y --no-install-recommends "$@"
}

# Finds cargo, also where rustup put it without the shell knowing, and compares its version.
require_rust() {
  local cargo_bin=${CARGO_HOME:-$HOME/.cargo}/bin
  if ! has cargo && [[ -x $cargo_bin/cargo ]]; then
    PATH=$cargo_bin:$PATH
  fi
  if ! has cargo || ! has rustc; then
    say "The Rust toolchain is missing; version $RUST_MINIMUM or newer is needed."
    if has rustup; then
      say "Install it with:  rustup toolchain install stable --profile default"
    else
      say "Install it with rustup, as the Install page of the Rust home page says, and start again."
    fi
    exit 1
  fi

  local version
  version=$(rustc --version | cut -d ' ' -f 2)
  if ! version_at_least "${version%%-*}" "$RUST_MINIMUM"; then
    say "Rust $version is installed; version $RUST_MINIMUM or newer is needed."
    if has rustup; then
      say "Update it with:  rustup update stable && rustup default stable"
    else
      say "Debian's own packages are older: install Rust with rustup, as the Rust home page says."
    fi
    exit 1
  fi
}

# Whether a C program with the system's headers compiles.
can_compile() {
  has cc && printf '#include <stdlib.h>\n#include <pthread.h>\n' | cc -E - >/dev/null 2>&1
}

has() {
  command -v "$1" >/dev/null 2>&1
}

# version_at_least 1.96.0 1.95
version_at_least() {
  [[ $(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1) == "$2" ]]
}

# Many connections need many file descriptors; less than wished for is no reason to stop.
raise_file_limit() {
  local hard
  hard=$(ulimit -Hn)
  ulimit -Sn "$hard" 2>/dev/null || true
}
