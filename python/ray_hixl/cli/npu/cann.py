"""What of CANN is on a machine, as a value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ray_hixl.cli.npu import facts


@dataclass(frozen=True)
class Cann:
    """What ``_core.cann_info`` said: either all of it, or why there is none."""

    error: str = ""
    runtime: str = ""  # paths of the two libraries
    hixl: str = ""
    no_hixl: str = ""  # why there is the runtime alone
    version: str = ""
    soc: str = ""
    devices: int = 0
    client_server: bool = False
    fake: bool = False
    physical: list[int] = field(default_factory=list)  # by the index that this process uses

    @classmethod
    def from_info(cls, info: dict[str, Any]) -> Cann:
        """Out of what ``_core.cann_info`` gives."""
        return cls(
            runtime=info["runtime"],
            hixl=info["hixl"],
            no_hixl=info["no_hixl"],
            version=info["hixl_version"],
            soc=info["soc"],
            devices=info["devices"],
            client_server=info["client_server"],
            fake=info["is_fake"],
            physical=list(info["physical"]),
        )

    @property
    def family(self) -> str:
        return facts.family(self.soc)
