#!/usr/bin/env bash
# Installs the Debian packages that are missing, builds schedlab in ./build, and runs or tests it.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
build=$here/build
program=lab/cli/schedlab
stamp=$build/compiler  # the CXX that the build folder was made for

packages=(
  meson ninja-build pkgconf
  libhwloc-dev libnuma-dev liburing-dev
  libboost-dev libboost-context-dev libboost-test-dev libcli11-dev libfmt-dev libturbojpeg0-dev
  nlohmann-json3-dev
  python3 python3-jsonschema
)

usage() {
  cat <<END
Use: ./bootstrap.sh run [ARGUMENTS]    build, then schedlab run ARGUMENTS
     ./bootstrap.sh test [ARGUMENTS]   build, then meson test ARGUMENTS
     ./bootstrap.sh build [OPTIONS]    build; OPTIONS go to meson setup (-Dstatic_binary=true)
Installs what is missing with apt-get, and says so before. CXX chooses the compiler.
END
}

fail() {
  printf 'bootstrap.sh: %s\n' "$*" >&2
  exit 1
}

# The distribution's tools come first: a meson or python3 from elsewhere lacks what was installed.
with_debian_tools() {
  PATH="/usr/bin:/bin:$PATH" CXX=$CXX "$@"
}

gxx_is_good() {
  local version
  version=$(g++ -dumpversion 2>/dev/null) || return 1
  ((${version%%.*} >= 13))
}

# The user's choice, else that of the last build, else the distribution's: g++ 12 of Debian 12
# miscompiles coroutines, so there it is clang-19.
choose_compiler() {
  if [[ -z ${CXX:-} && -f $stamp ]]; then
    CXX=$(<"$stamp")
    command -v "${CXX%% *}" >/dev/null || CXX=
  fi
  if [[ -n ${CXX:-} ]]; then
    return
  elif gxx_is_good; then
    CXX=g++
  elif command -v clang++-19 >/dev/null; then
    CXX=clang++-19
  elif grep -qx 'VERSION_ID="12"' /etc/os-release; then
    CXX=clang++-19
    packages+=(clang-19)
  else
    CXX=g++
    packages+=(g++)
  fi
}

missing_packages() {
  local installed package
  installed=$(dpkg-query -W -f='${db:Status-Status} ${Package}\n' "${packages[@]}" 2>/dev/null) ||
    true  # it fails when one of them is unknown
  for package in "${packages[@]}"; do
    grep -qxF "installed $package" <<<"$installed" || echo "$package"
  done
}

install_missing() {
  command -v dpkg-query >/dev/null ||
    fail "this is no Debian system; install the counterparts of: ${packages[*]}"
  local missing
  mapfile -t missing < <(missing_packages)
  ((${#missing[@]})) || return 0

  local install=(apt-get install -y --no-install-recommends "${missing[@]}")
  local as_root=(env DEBIAN_FRONTEND=noninteractive)
  if ((EUID != 0)); then
    command -v sudo >/dev/null ||
      fail "packages are missing, and only root may install them. Run as root:
  apt-get update && ${install[*]}"
    as_root=(sudo "${as_root[@]}")
  fi
  printf 'bootstrap.sh: installing with apt-get: %s\n' "${missing[*]}" >&2
  "${as_root[@]}" apt-get update -qq >&2 || fail "apt-get update failed"
  "${as_root[@]}" "${install[@]}" >&2 || fail "apt-get could not install: ${missing[*]}"
}

# Configures anew only if there is no build folder, or it was made here for another compiler.
configure() {
  if [[ -f $build/build.ninja ]] && { [[ ! -f $stamp ]] || [[ $(<"$stamp") == "$CXX" ]]; }; then
    (($# == 0)) || with_debian_tools meson configure "$build" "$@" >&2
    return
  fi
  local fresh=()
  [[ ! -f $build/build.ninja ]] || fresh=(--wipe)
  with_debian_tools meson setup "${fresh[@]}" "$build" "$here" "$@" >&2
  printf '%s\n' "$CXX" >"$stamp"
}

prepare() {
  choose_compiler
  install_missing
  configure "$@"
}

make_targets() {
  with_debian_tools ninja -C "$build" "$@" >&2
}

case ${1:-} in
run)
  prepare
  make_targets "$program"
  exec "$build/$program" "$@"
  ;;
test)
  prepare
  make_targets
  shift
  with_debian_tools meson test -C "$build" --print-errorlogs "$@"
  ;;
build)
  shift
  prepare "$@"
  make_targets
  ;;
-h | --help | help)
  usage
  ;;
*)
  usage >&2
  exit 2
  ;;
esac
