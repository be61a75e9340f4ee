"""Step 9 of ``ray-hixl bringup``: Ray actors on NPUs."""

from __future__ import annotations

from ray_hixl.cli.npu.context import Context, Skipped
from ray_hixl.cli.npu.helper import Helper, HelperError

_LONG_S = 300.0


def handoffs(context: Context) -> None:
    """9: one cluster for all of it, since starting one takes long."""
    context.need_torch()
    if context.versions["ray"] == "not installed":
        raise Skipped("ray is not installed")
    driver = context.helper()
    calls = [("start", context.cann.devices), ("hand_over", 1), ("get", 2), ("kill_source", 3), ("use_restarted", 4)]
    if not context.cann.client_server:
        calls.remove(("get", 2))
        context.note("get: not tried, since the driver would share an NPU with the source, which takes CANN 9.1")
    try:
        for function, argument in calls:
            for line in _call(driver, function, argument):
                context.note(f"{function.replace('_', ' ')}: {line}")
    finally:
        if driver.process.poll() is None:
            driver.call("ray_work.stop", timeout=_LONG_S)


def _call(driver: Helper, function: str, argument: int) -> list[str]:
    """The driver receives on the source's NPU: where HIXL does not link one with itself, to be refused by name is right."""
    try:
        lines: list[str] = driver.call(f"ray_work.{function}", argument, timeout=_LONG_S)
    except HelperError as error:
        if function != "get" or not error.is_about_one_npu:
            raise
        return [f"refused: {error}"]
    return lines
