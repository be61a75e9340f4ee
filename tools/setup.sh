#!/usr/bin/env bash
# Sets a machine up for building and testing: system packages, virtual environments, the package itself. Everything is stamped, so that a
# second run does nothing. Usage: tools/setup.sh [npu|tests|rays]   npu: also the environment with torch_npu; tests: that, and the one with
# the oldest supported Ray; rays: those with every supported Ray, one each, and nothing else of tests
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(g++ libssl-dev libgtest-dev libgmock-dev ccache git)
if [ "${1:-}" = tests ]; then  # thread-safety analysis and fuzzing; the oldest compiler that has to build the package; hosts of namespaces
  packages+=(clang-19 libclang-rt-19-dev g++-11 iproute2)
fi
if [ "${1:-}" = tests ] && [ "$(dpkg --print-architecture)" = amd64 ]; then  # the cross build for aarch64
  packages+=(g++-aarch64-linux-gnu libssl-dev:arm64)
fi

missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
if ((${#missing[@]})); then
  if [ "$(id -u)" = 0 ]; then
    echo "setup: installing ${missing[*]}"
    [[ "${missing[*]}" == *:arm64* ]] && dpkg --add-architecture arm64
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}" >/dev/null
  else
    foreign=""
    [[ "${missing[*]}" == *:arm64* ]] && foreign="sudo dpkg --add-architecture arm64; "
    echo "setup: these packages are missing. Install them with:  ${foreign}sudo apt-get update; sudo apt-get install ${missing[*]}" >&2
    exit 1
  fi
fi

# The pinned torch has a CPU build for Python 3.11 only on some machines: take 3.11 where it is there.
python=$(command -v python3.11 || command -v python3)
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
  if [ "$(id -u)" = 0 ]; then
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv python3-dev >/dev/null
  else
    echo "setup: Python's venv module is missing. Install it with:  sudo apt-get install python3-venv python3-dev" >&2
    exit 1
  fi
fi

environment() {  # <folder> <requirements>
  local stamp="$1/.stamp" want
  want=$(sha256sum "$2" | cut -d' ' -f1)
  [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ] && return
  echo "setup: installing $2 into $1 (some minutes the first time)"
  [ -x "$1/bin/python" ] || "$python" -m venv "$1"
  "$1/bin/python" -m pip install -q -r "$2"
  echo "$want" >"$stamp"
}

environment .venv requirements/dev.txt
echo "setup: building ray_hixl"
.venv/bin/python -m pip install -q --no-deps --no-build-isolation -Cbuild-dir=build/python --editable .
with_wheel=()
rays=()
if [ "${1:-}" = tests ]; then
  rays=(ray254)
elif [ "${1:-}" = rays ]; then
  rays=(ray254 ray255 ray256)
fi
for ray in ${rays[@]+"${rays[@]}"}; do
  environment ".venv-$ray" "requirements/$ray.txt"
  with_wheel+=(".venv-$ray")
done
if [ "${1:-}" = tests ] || [ "${1:-}" = npu ]; then
  environment .venv-npu requirements/npu.txt
  # Without dependencies: it names more than it needs here. Its import needs CANN libraries, real or fake, and `import torch` imports it:
  # whatever runs in this environment without them needs TORCH_DEVICE_BACKEND_AUTOLOAD=0.
  [ -d .venv-npu/lib/python3*/site-packages/torch_npu ] || .venv-npu/bin/python -m pip install -q --no-deps torch-npu==2.13.0
  with_wheel+=(.venv-npu)
fi
if ((${#with_wheel[@]})); then
  rm -rf build/wheels
  .venv/bin/python -m pip wheel -q --no-deps --no-build-isolation -Cbuild-dir=build/wheel -w build/wheels .
  for folder in "${with_wheel[@]}"; do
    "$folder/bin/python" -m pip install -q --no-deps --force-reinstall build/wheels/*.whl
  done
fi
