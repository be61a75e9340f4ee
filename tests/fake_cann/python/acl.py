"""The FAKE of CANN's Python module, as far as Ray asks it: how many NPUs, and which."""

import os


class rt:  # noqa: N801  # its name there
    @staticmethod
    def get_device_count() -> tuple[int, int]:
        return int(os.environ.get("FAKE_CANN_DEVICES", "2")), 0


def get_soc_name() -> str:
    return os.environ.get("FAKE_CANN_SOC", "Ascend950PR_9599")
