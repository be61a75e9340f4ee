#!/usr/bin/env bash
# Runs a command over the FAKE CANN of the tests, and says so in every line of its output: nothing of it is an NPU's.
# Usage: tools/fake_cann.sh <command> ...   e.g. tools/fake_cann.sh .venv-npu/bin/ray-hixl bringup
# As A2: FAKE_CANN_SOC=Ascend910B3 tools/fake_cann.sh ...; over RoCE, with HCCL_INTRA_ROCE_ENABLE=1 as well.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
fake="$root/build/dev/fake_cann"

export PATH="$root/.venv/bin:$PATH"
cmake --preset dev -S "$root" >/dev/null
libraries=(ascendcl acl_rt acl_op_compiler acl_tdt_channel ge_runner graph hccl opapi hixl hixl85 hixl_clock)
cmake --build "$root/build/dev" --target "${libraries[@]/#/fake_}" >/dev/null

export LD_LIBRARY_PATH="$fake/lib:$fake/lib/hixl" ASCEND_HOME_PATH="$fake/home" ASCEND_OPP_PATH="$fake/home/opp"
export PYTHONPATH="$root/tests/fake_cann/python${PYTHONPATH:+:$PYTHONPATH}"  # Ray asks CANN's Python module for NPUs
export FAKE_HIXL_HCCN_CONF="${FAKE_HIXL_HCCN_CONF:-$root/tests/fake_cann/hccn.conf}"
export RAY_HIXL_ALLOW_FAKE_CANN=1 TORCH_CPP_LOG_LEVEL=ERROR PYTHONUNBUFFERED=1
echo "FAKE CANN: no NPU takes part. The bytes are real, and so are torch_npu and Ray; the device, HIXL and their speed are not."
"$@" 2>&1 | sed -u 's/^/FAKE | /'
