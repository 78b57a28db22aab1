#!/usr/bin/env bash
# Whether soct works where this lies: it simulates a small acquisition, runs it, and verifies the result. In an
# image no kernel may be left to compile. Writes into a temporary folder only; needs no network and no home.
#
# Every image brings it as share/soct/check.sh below the folder of soct: `apptainer test` runs it.
set -euo pipefail

bin=$(cd "$(dirname "$0")/../../bin" && pwd)
folder=$(mktemp -d "${TMPDIR:-/tmp}/soct-check.XXXXXX")
trap 'rm -rf "$folder"' EXIT
cd "$folder"
export SOCT_CACHE_DIR=$folder/cache
unset NUMBA_CACHE_DIR
shipped=$bin/../share/soct/kernels/BUILD

"$bin/soct" --version
if [ ! -f "$shipped" ]; then
  echo "check.sh: no kernels were compiled for this installation"
  "$bin/soct" profiles list >/dev/null
  exit 0
fi
echo "check.sh: kernels $(cat "$shipped")"
"$bin/soct" simulate made --preset tiny >/dev/null
"$bin/soct" run made/raw run --profile conservative >/dev/null
"$bin/soct" verify run >/dev/null
compiled=$(find cache -name '*.nbc' | wc -l)
level=$("$bin/python" -c 'from soct.compute import caches; print(caches.describe().level)')
if [ "$level" != "$(cut -d' ' -f2- "$shipped")" ]; then
  echo "check.sh: kernels were compiled anew, for $level: the image's are for other processors"
elif [ "$compiled" -gt 0 ]; then
  find cache -name '*.nbc' >&2
  echo "check.sh: $compiled kernels had to be compiled; the image should have brought them" >&2
  exit 1
fi
echo "check.sh: ok"
