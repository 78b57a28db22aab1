#!/usr/bin/env bash
# Puts soct into an image. Apptainer.def and Dockerfile both call this, and nothing else, so they cannot drift.
#
#   containers/install.sh system          what soct needs from Debian
#   containers/install.sh tools           what only the build needs from Debian
#   containers/install.sh soct            soct, its dependencies and compiled kernels, into PREFIX; then a check
#   containers/install.sh tidy            remove what only the build needed
#
# Run it in the root of the project; several words are done in their order. From the environment:
#
#   VARIANT       cpu, cuda12 or cuda13                                    (cpu)
#   PREFIX        where soct goes                                          (/opt/soct)
#   PYTHON        a Python of the version that the lock files are for      (python3)
#   DEPENDENCIES  locked: from the lock files, by their checksums;
#                 present: those that PYTHON has already, for tests        (locked)
#   KERNELS       compile: run soct once, to have its kernels compiled; none  (compile)
#   PIP_*         as pip reads them (index, certificates, PIP_NO_INDEX with PIP_FIND_LINKS)
#
# Wheels that lie in containers/wheels are used instead of a package index, if there are any.
set -euo pipefail

VARIANT=${VARIANT:-cpu}
PREFIX=${PREFIX:-/opt/soct}
PYTHON=${PYTHON:-python3}
DEPENDENCIES=${DEPENDENCIES:-locked}
KERNELS=${KERNELS:-compile}
LOCKS=containers/locks
WHEELS=containers/wheels
NEEDED=(ca-certificates libgomp1 python3)
ONLY_TO_BUILD=(python3-venv)

say() { printf 'install.sh: %s\n' "$*"; }
fail() { printf 'install.sh: %s\n' "$*" >&2; exit 1; }

install_packages() {
  if dpkg-query -W -f '${db:Status-Abbrev}\n' "$@" 2>/dev/null | grep -cx 'ii ' | grep -qx "$#"; then
    say "there already: $*"
    return
  fi
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
  rm -rf /var/lib/apt/lists/*
}

do_system() { install_packages "${NEEDED[@]}"; }

do_tools() { install_packages "${ONLY_TO_BUILD[@]}"; }

do_tidy() {
  apt-get purge -y -qq --auto-remove "${ONLY_TO_BUILD[@]}"
  apt-get clean
  rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/debconf/*-old /var/log/apt /var/log/dpkg.log
  rm -rf /usr/share/doc /usr/share/man /usr/share/locale
}

pip_of() {
  local python=$1
  shift
  "$python" -m pip --disable-pip-version-check --no-input --quiet "$@"
}

use_wheels_beside() {
  # The certificates of the base image, which may be an institute's own, rather than those that pip brings.
  if [ -z "${PIP_CERT:-}" ] && [ -s /etc/ssl/certs/ca-certificates.crt ]; then
    export PIP_CERT=/etc/ssl/certs/ca-certificates.crt
  fi
  if compgen -G "$WHEELS/*.whl" >/dev/null; then
    say "wheels are taken from $WHEELS, none from an index"
    export PIP_NO_INDEX=1 PIP_FIND_LINKS=$PWD/$WHEELS
  fi
}

make_environment() {
  rm -rf "$PREFIX"
  if [ "$DEPENDENCIES" = present ]; then
    "$PYTHON" -m venv --without-pip "$PREFIX"
    "$PYTHON" -c 'import site; print("\n".join(site.getsitepackages()))' >"$(site_packages)/present.pth"
    return
  fi
  "$PYTHON" -m venv "$PREFIX"
  local lock=("-r" "$LOCKS/cpu.lock")
  [ "$VARIANT" = cpu ] || lock+=("-r" "$LOCKS/$VARIANT.lock")
  pip_of "$PREFIX/bin/python" install --no-cache-dir --no-compile --only-binary :all: --require-hashes "${lock[@]}"
}

site_packages() { "$PREFIX/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'; }

install_soct() {
  local builder=$PYTHON
  if [ "$DEPENDENCIES" = locked ]; then
    "$PYTHON" -m venv "$WORK/build"
    builder=$WORK/build/bin/python
    pip_of "$builder" install --no-cache-dir --only-binary :all: --require-hashes -r "$LOCKS/build.lock"
  fi
  # The wheel holds what the project says it holds, whatever else lies in the folder.
  PIP_NO_INDEX=1 pip_of "$builder" wheel --no-deps --no-build-isolation --wheel-dir "$WORK" .
  PIP_NO_INDEX=1 pip_of "$builder" --python "$PREFIX/bin/python" install --no-deps --no-compile --force-reinstall "$WORK"/soct-*.whl
}

slim() {
  [ "$DEPENDENCIES" = locked ] && pip_of "$PREFIX/bin/python" uninstall -y setuptools pip
  # Tests of the libraries; what is imported after all stays (numba's test support is, by numba itself).
  find "$(site_packages)" -type d -name tests -not -path '*/numba/*' -prune -exec rm -rf {} +
  find "$(site_packages)" -name __pycache__ -prune -exec rm -rf {} +
  # Compiled ahead, and trusted without a look at the source: nothing can be written later, and the dates of
  # files do not survive every way of copying an image.
  "$PREFIX/bin/python" -m compileall -q -j 0 --invalidation-mode unchecked-hash "$(site_packages)"
}

add_check() {
  mkdir -p "$PREFIX/share/soct"
  install -m 755 containers/check.sh "$PREFIX/share/soct/check.sh"
}

# The kernels of what nearly everybody runs: the shipped profiles and the steps that they leave off.
compile_kernels() {
  local kernels=$PREFIX/share/soct/kernels
  local soct=$PREFIX/bin/soct raw=$WORK/made/raw
  export NUMBA_CACHE_DIR=$kernels SOCT_CACHE_DIR=$WORK/cache
  mkdir -p "$kernels"
  say "compiling kernels: some minutes"
  "$soct" simulate "$WORK/made" --preset demo --slices 4 >/dev/null
  "$soct" run "$raw" "$WORK/default" --set correct_bias_field.enabled=true \
    --set normalize_z_intensity.enabled=true >/dev/null
  "$soct" run "$raw" "$WORK/conservative" --profile conservative >/dev/null
  "$soct" run "$raw" "$WORK/diagnostic" --profile diagnostic >/dev/null
  "$soct" evaluate "$WORK/default" "$WORK/made" >/dev/null
  unset NUMBA_CACHE_DIR SOCT_CACHE_DIR
  local level name
  level=$("$PREFIX/bin/python" -c 'from soct.compute import instruction_set as i; i.fix(); print(i.describe()[0])')
  name=$(cd "$kernels" && find . -name '*.nb?' -print0 | sort -z | xargs -0 sha256sum | sha256sum | cut -c1-12)
  echo "$name $level" >"$kernels/BUILD"
  say "$(find "$kernels" -name '*.nbc' | wc -l) kernels for $level"
}

do_soct() {
  case $VARIANT in cpu | cuda12 | cuda13) ;; *) fail "VARIANT is cpu, cuda12 or cuda13, not '$VARIANT'" ;; esac
  "$PYTHON" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || [ "$DEPENDENCIES" = present ] ||
    fail "the lock files are for Python 3.11 (Debian bookworm's); $PYTHON is $("$PYTHON" --version)"
  WORK=$(mktemp -d)
  trap 'rm -rf "$WORK"' EXIT
  export LC_ALL=C.UTF-8 PYTHONNOUSERSITE=1
  unset PYTHONPATH
  use_wheels_beside
  make_environment
  install_soct
  slim
  add_check
  [ "$KERNELS" = none ] || compile_kernels
  chmod -R a+rX "$PREFIX"
  "$PREFIX/share/soct/check.sh"
}

[ -f pyproject.toml ] || fail "run it in the root of the project"
[ $# -gt 0 ] || fail "what? system, tools, soct, tidy"
for word in "$@"; do
  case $word in
    system | tools | soct | tidy) say "$word"; "do_$word" ;;
    *) fail "unknown: $word (system, tools, soct, tidy)" ;;
  esac
done
