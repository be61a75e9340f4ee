"""torch_npu's two queue modes, in which all tests here run."""

from __future__ import annotations

import os

import pytest

# For tests that start processes and do not depend on the mode.
once = pytest.mark.skipif(os.environ.get("TASK_QUEUE_ENABLE") == "0", reason="once is enough: in torch_npu's usual queue mode")
