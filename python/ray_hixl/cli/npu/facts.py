"""Facts about Ascend machines: names, paths, variables and versions that the checks compare with. Pure functions."""

from __future__ import annotations

import re

STAGED = "until then NPU tensors are staged through the host"
HCCL_NIC_PORT = 16666
# Ports that others listen on, by default: HCCL on the host and on the device's NIC, and Ray's workers.
PORTS_OF_OTHERS = (
    ("HCCL", range(60000, 60032)),
    ("HCCL", range(HCCL_NIC_PORT, HCCL_NIC_PORT + 1)),
    ("Ray", range(10002, 20000)),
)
REGISTERED_CAP = 50_000_000_000  # bytes of one NPU that HIXL registers on A2 and A3, by its documents

# Mooncake's variables, and what stands for them here.
OF_MOONCAKE = {
    "ASCEND_BUFFER_POOL": "always 0:0",
    "ASCEND_BASE_PORT": "RAY_HIXL_HIXL_PORTS",
    "ASCEND_CONNECT_TIMEOUT": "RAY_HIXL_CONNECT_TIMEOUT_S",
    "ASCEND_TRANSFER_TIMEOUT": "RAY_HIXL_TRANSFER_TIMEOUT_S",
    "ASCEND_RDMA_TC": "RAY_HIXL_HIXL_TRAFFIC_CLASS",
    "ASCEND_RDMA_SL": "RAY_HIXL_HIXL_SERVICE_LEVEL",
    "ASCEND_LOCAL_COMM_RES": "RAY_HIXL_HIXL_LOCAL_COMM_RES",
    "ASCEND_GLOBAL_RESOURCE_CONFIG": "RAY_HIXL_HIXL_PROTOCOL_DESC and RAY_HIXL_HIXL_MAX_ACTIVE_CHANNELS",
}

# torch_npu -> the CANN that it is released for. From torch_npu's compatibility table and README.
CANN_OF_TORCH_NPU = {
    "2.12.0": "9.1.0",
    "2.11.0": "9.1.0",
    "2.10.0.post4": "9.1.0",
    "2.9.0.post6": "9.1.0",
    "2.7.1.post8": "9.1.0",
    "2.10.0.post2": "9.0.0",
    "2.9.0.post2": "9.0.0",
    "2.8.0.post4": "9.0.0",
    "2.7.1.post4": "9.0.0",
    "2.9.0": "8.5.0",
    "2.8.0.post2": "8.5.0",
    "2.7.1.post2": "8.5.0",
    "2.6.0.post5": "8.5.0",
    "2.8.0": "8.3.RC1",
    "2.7.1": "8.3.RC1",
}
OLDEST_TORCH = (2, 7)  # before, torch_npu has no DLPack door for device memory

# Variables that change how HIXL reaches a peer. Both sides of a link need the same values.
SHARED_VARIABLES = ("HCCL_INTRA_ROCE_ENABLE", "HCCL_RDMA_TC", "HCCL_RDMA_SL")
# What a report about NPUs shows of the environment; none of it is secret.
REPORTED_VARIABLES = re.compile(
    r"ASCEND_|HCCL_|RAY_HIXL_|FAKE_CANN_|FAKE_HIXL_|TASK_QUEUE_ENABLE$|ACL_OP_INIT_MODE$|LD_LIBRARY_PATH$|LD_PRELOAD$"
    r"|PYTORCH_NPU_ALLOC_CONF$|PYTORCH_ALLOC_CONF$|TORCH_DEVICE_BACKEND_AUTOLOAD$|RAY_EXPERIMENTAL_NOSET_ASCEND_RT_VISIBLE_DEVICES$"
)


def family(soc: str) -> str:
    """ "A2", "A3" or "950" by what the runtime calls the chip; empty for one that HIXL is not documented for."""
    if soc.startswith("Ascend910_93"):
        return "A3"
    if soc.startswith("Ascend910B"):
        return "A2"
    return "950" if soc.startswith("Ascend950") else ""


def visible_devices(text: str) -> tuple[list[int], str]:
    """The devices that CANN takes out of ASCEND_RT_VISIBLE_DEVICES, and what is wrong with the text (empty if nothing)."""
    devices: list[int] = []
    for entry in text.split(","):
        if not entry.isascii() or not entry.isdigit():
            what = "has a blank in it" if entry.strip() != entry else "is no number"
            return devices, f"entry {entry!r} {what}; CANN stops reading there"
        if devices and int(entry) <= devices[-1]:
            return devices, f"entry {entry!r} is not larger than the one before; CANN wants them ascending"
        devices.append(int(entry))
    return devices, ""


def hccn_addresses(text: str) -> dict[int, str]:
    """Addresses of the devices' NICs by physical device, out of /etc/hccn.conf."""
    return {int(number): address for number, address in re.findall(r"^address_(\d+)=\s*(\S+)", text, re.MULTILINE)}


def port_ranges(text: str) -> list[range]:
    """Of a list as the kernel writes it: "8080,20000-29999"."""
    return [range(int(first), int(last or first) + 1) for first, last in re.findall(r"(\d+)(?:-(\d+))?", text)]


def version_of(text: str) -> str:
    """What a version.info file says: the value of its ``Version=`` line, else its first line."""
    found = re.search(r"^version\s*=\s*(.+)$", text, re.MULTILINE | re.IGNORECASE)
    return found.group(1).strip() if found else (text.strip().splitlines() or [""])[0].strip()


def nic_patience(timeout: str, retries: str) -> float | None:
    """Seconds until a NIC gives a silent peer up, by HCCL_RDMA_TIMEOUT and HCCL_RDMA_RETRY_CNT; None where HIXL refuses the values."""
    exponent, count = timeout or "20", retries or "7"
    if not (exponent.isdigit() and count.isdigit() and 5 <= int(exponent) <= 20 and 1 <= int(count) <= 7):
        return None
    return 4.096e-6 * float(2 ** int(exponent)) * int(count)


def base_version(version: str) -> tuple[int, ...]:
    """(2, 9, 0) of "2.9.0.post6" and of "2.9.0+cpu"."""
    found = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", version)
    return tuple(int(part or 0) for part in found.groups()) if found else ()


def judge_torch_npu(version: str) -> tuple[bool, str]:
    """Is this torch_npu one of the table's? And what the table says."""
    cann = CANN_OF_TORCH_NPU.get(version)
    if cann is not None:
        return True, f"released for CANN {cann}"
    return False, "not in our table of torch_npu and CANN; see torch_npu's own compatibility table"
