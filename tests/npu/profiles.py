"""What the FAKE NPUs are in this run: A2 over HCCS or over RoCE, or Ascend950. Said by ``FAKE_CANN_SOC`` and ``HCCL_INTRA_ROCE_ENABLE``."""

from __future__ import annotations

import os

_IS_A2 = os.environ.get("FAKE_CANN_SOC", "").startswith("Ascend910")
OVER_HCCS = _IS_A2 and os.environ.get("HCCL_INTRA_ROCE_ENABLE") != "1"

# For processes that others of a test link to: they use NPUs of their own where one cannot be linked with itself.
APART = {"FAKE_CANN_DEVICES": "4", "ASCEND_RT_VISIBLE_DEVICES": "2,3"} if OVER_HCCS else {}
