"""What ``ray-hixl doctor --npu`` says of settings: variables, options, ports."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from machines import A2, NO_CANN, by_name, machine, write
from ray_hixl import Options
from ray_hixl.cli.npu import facts
from ray_hixl.cli.npu.cann import Cann
from ray_hixl.cli.npu.settings_checks import check_ports, check_settings

CHIP_950 = Cann(soc="Ascend950PR_9599", devices=2, client_server=True)
SHARED = "two processes on one NPU"
NOSET = "RAY_EXPERIMENTAL_NOSET_ASCEND_RT_VISIBLE_DEVICES"


def test_settings(tmp_path: Path) -> None:
    usual = by_name(check_settings(machine(tmp_path), Options(), CHIP_950))
    assert {finding.verdict for finding in usual.values()} == {"works"}
    bad = machine(tmp_path, HCCL_RDMA_TIMEOUT="30", HCCL_INTRA_ROCE_ENABLE="1", PYTORCH_NPU_ALLOC_CONF="expandable_segments: True")
    found = by_name(check_settings(bad, Options(), CHIP_950))
    assert found["NIC's patience"].verdict == "warning"
    assert "HCCL_INTRA_ROCE_ENABLE=1" in found["shared with peers"].found
    assert found["torch's allocator"].verdict == "warning"
    slow = by_name(check_settings(machine(tmp_path), Options(transfer_timeout_s=10), CHIP_950))
    assert "HCCL_RDMA_TIMEOUT=17" in slow["NIC's patience"].remedy


def test_ports(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        other = port + 1 if port < 65535 else port - 1
        first, last = sorted((port, other))
        found = check_ports(machine(tmp_path), Options(hixl_ports=f"{first}-{last}"))[0]
        assert str(port) in found.found
    elsewhere = check_ports(machine(tmp_path), Options(host="192.0.2.200", hixl_ports="20000-20003"))[0]
    assert elsewhere.verdict == "missing"
    assert "RAY_HIXL_HOST" in elsewhere.remedy
    clash = by_name(check_ports(machine(tmp_path), Options(hixl_ports="59990-60010")))
    assert "60000" in clash["HCCL's ports"].found


def test_two_processes_on_one_npu(tmp_path: Path) -> None:
    """As the product decides it: tests/npu/test_one_npu.py."""
    here, roce = machine(tmp_path), machine(tmp_path, HCCL_INTRA_ROCE_ENABLE="1")
    staged = by_name(check_settings(here, Options(), A2))[SHARED]
    assert staged.verdict == "warning"
    assert "HCCL_INTRA_ROCE_ENABLE=1" in staged.remedy
    assert "RAY_HIXL_HIXL_PROTOCOL_DESC=roce:device" in staged.remedy
    assert by_name(check_settings(here, Options(hixl_protocol_desc="hccs:device,roce:device"), A2))[SHARED].verdict == "warning"
    assert by_name(check_settings(roce, Options(), A2))[SHARED].found == "they link over RoCE"
    assert by_name(check_settings(here, Options(hixl_protocol_desc="roce:device"), A2))[SHARED].verdict == "works"
    assert by_name(check_settings(here, Options(), CHIP_950))[SHARED].verdict == "works"
    old = by_name(check_settings(roce, Options(), Cann(soc="Ascend910B3", devices=1)))[SHARED]
    assert (old.verdict, "CANN 9.1" in old.remedy) == ("refused", True)
    assert SHARED not in by_name(check_settings(here, Options(), NO_CANN))


def test_variables_of_mooncake(tmp_path: Path) -> None:
    found = by_name(check_settings(machine(tmp_path, ASCEND_BUFFER_POOL="4:8", ASCEND_BASE_PORT="30000"), Options(), A2))
    assert found["ASCEND_BUFFER_POOL"].verdict == "warning"
    assert "103900" in found["ASCEND_BUFFER_POOL"].found
    assert "ASCEND_BUFFER_POOL=0:0" in found["ASCEND_BUFFER_POOL"].remedy
    assert found["Mooncake's variables"].remedy == "always 0:0 for ASCEND_BUFFER_POOL; RAY_HIXL_HIXL_PORTS for ASCEND_BASE_PORT"
    fine = by_name(check_settings(machine(tmp_path, ASCEND_BUFFER_POOL="0:0"), Options(), A2))
    assert "ASCEND_BUFFER_POOL" not in fine
    assert fine["Mooncake's variables"].verdict == "works"
    assert "Mooncake's variables" not in by_name(check_settings(machine(tmp_path), Options(), A2))


def test_all_npus_visible_under_ray(tmp_path: Path) -> None:
    noset = machine(tmp_path, **{NOSET: "1"})
    assert "RAY_HIXL_LANDING_DEVICE" in by_name(check_settings(noset, Options(), A2))[NOSET].remedy
    chosen = by_name(check_settings(noset, Options(landing_device="npu:1"), A2))[NOSET]
    assert (chosen.found, chosen.remedy) == ("all NPUs are visible; tensors arrive on npu:1", "")
    assert NOSET not in by_name(check_settings(machine(tmp_path, **{NOSET: "0"}), Options(), A2))


def test_ports_of_others(tmp_path: Path) -> None:
    assert "10100-10103" in by_name(check_ports(machine(tmp_path), Options(hixl_ports="10100-10103")))["Ray's ports"].found
    both = [found.found for found in check_ports(machine(tmp_path), Options(hixl_ports="16666-16667")) if found.name == "HCCL's ports"]
    assert both == ["hixl_ports 16666-16667 holds 16666, which HCCL uses"]


@pytest.mark.parametrize(
    ("reserved", "ports", "verdict", "said"),
    [
        ("", "20000-20003", "works", "hixl_ports are others"),
        ("", "32766-32769", "warning", "32768-32769 to outgoing connections, 2 of them unreserved"),
        ("8080,32768", "32766-32769", "warning", "1 of them unreserved"),
        ("8080,32766-32769", "32766-32769", "works", "hixl_ports are reserved"),
    ],
)
def test_ports_that_the_system_gives_out(tmp_path: Path, reserved: str, ports: str, verdict: str, said: str) -> None:
    write(tmp_path, "/proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n")
    write(tmp_path, "/proc/sys/net/ipv4/ip_local_reserved_ports", f"{reserved}\n")
    found = by_name(check_ports(machine(tmp_path), Options(hixl_ports=ports)))["the system's own ports"]
    assert found.verdict == verdict
    assert said in found.found
    assert (f"ip_local_reserved_ports={ports}" in found.remedy) == (verdict == "warning")


def test_lists_of_ports() -> None:
    assert facts.port_ranges("8080,20000-29999") == [range(8080, 8081), range(20000, 30000)]
    assert facts.port_ranges("\n") == []
