"""The checks of ``ray-hixl doctor --npu`` on the machine: libraries, installation, devices, network."""

from __future__ import annotations

from collections.abc import Iterable

from ray_hixl.cli.npu import facts
from ray_hixl.cli.npu.cann import Cann
from ray_hixl.cli.npu.machine import Machine
from ray_hixl.findings import MISSING, WARNING, WORKS, Finding

_SMI = "/usr/local/bin/npu-smi"
_HCCN_TOOL = "/usr/local/Ascend/driver/tools/hccn_tool"
_DRIVER = "/usr/local/Ascend/driver/version.info"
_NODES = ("/dev/davinci_manager", "/dev/devmm_svm", "/dev/hisi_hdc")
_SOURCE = "source CANN's set_env.sh (/usr/local/Ascend/cann/set_env.sh)"


def check_libraries(cann: Cann) -> list[Finding]:
    topic = "libraries"
    if cann.error:
        return [Finding(topic, "CANN", MISSING, cann.error)]
    fake = " (FAKE: the tests' stand-in, no NPU)" if cann.fake else ""
    found = [Finding(topic, "runtime", WORKS, cann.runtime + fake)]
    if cann.no_hixl:
        return [
            *found,
            Finding(topic, "libcann_hixl.so", MISSING, cann.no_hixl, f"install CANN's hixl package, from 9.1 on; {facts.STAGED}"),
        ]
    found.append(Finding(topic, "libcann_hixl.so", WORKS, f"{cann.hixl}, version {cann.version}{fake}"))
    if cann.client_server:
        return [*found, Finding(topic, "engine", WORKS, "HIXL's client-server engine, as in CANN 9.1 and later")]
    limits = (
        "HIXL's communicator engine, as in CANN 8.5 and 9.0: at most 512 links, two processes cannot share an NPU, its NIC port "
        f"{facts.HCCL_NIC_PORT} collides with HCCL's"
    )
    return [*found, Finding(topic, "engine", WARNING, limits, "take CANN 9.1 or later")]


def check_installation(machine: Machine, cann: Cann) -> list[Finding]:
    topic = "installation"
    found = [_versions_file(machine, topic, "driver", _DRIVER, "mount /usr/local/Ascend/driver into the container")]
    home = machine.variable("ASCEND_HOME_PATH")
    if not home:
        return [*found, Finding(topic, "ASCEND_HOME_PATH", MISSING, "not set; HIXL finds its device part by it", _SOURCE)]
    if not machine.path(home).is_dir():
        return [*found, Finding(topic, "ASCEND_HOME_PATH", MISSING, f"{home} is no folder", _SOURCE)]
    found.append(Finding(topic, "ASCEND_HOME_PATH", WORKS, home))
    found.append(_versions_file(machine, topic, "hixl", f"{home}/share/info/hixl/version.info", "install CANN's hixl package, from 9.1 on"))
    found += _device_part(machine, home, cann)
    stubs = [place for place in machine.variable("LD_LIBRARY_PATH").split(":") if "devlib" in place.split("/")]
    if stubs:
        remedy = "take it out of LD_LIBRARY_PATH"
        found.append(Finding(topic, "LD_LIBRARY_PATH", WARNING, f"{stubs[0]} holds stubs for linking, not libraries to run with", remedy))
    return found


def _versions_file(machine: Machine, topic: str, name: str, path: str, remedy: str) -> Finding:
    text = machine.read(path)
    if text is None:
        return Finding(topic, f"{name} version", WARNING, f"{path} cannot be read", remedy)
    return Finding(topic, f"{name} version", WORKS, f"{facts.version_of(text)} ({path})")


def _device_part(machine: Machine, home: str, cann: Cann) -> Iterable[Finding]:
    """What HIXL loads onto the device's AICPU. The communicator engine needs none."""
    folder = f"{home}/opp/built-in/op_impl/aicpu"
    wanted = {"cann-hixl-compat.tar.gz": "AICPU archive", "libcann_hixl_kernel.json": "AICPU kernel list"}
    for file, name in wanted.items():
        places = sorted(machine.path(folder).rglob(file))
        if places:
            yield Finding("installation", name, WORKS, str(places[0]))
        else:
            verdict = MISSING if cann.client_server and not cann.fake else WARNING
            remedy = "install CANN's hixl package with its device part (--full)"
            yield Finding("installation", name, verdict, f"no {file} below {folder}", remedy)


def check_devices(machine: Machine, cann: Cann) -> list[Finding]:
    topic = "devices"
    found = list(_device_nodes(machine, cann))
    text = machine.variable("ASCEND_RT_VISIBLE_DEVICES")
    if text:
        devices, wrong = facts.visible_devices(text)
        remedy = "write it like 0,1,2: ascending, no blanks" if wrong else ""
        if not wrong and not cann.error and len(devices) != cann.devices:
            wrong = f"{text}: {len(devices)} device(s), of which CANN sees {cann.devices}"
            remedy = "name devices that are here; in a container they count from 0"
        seen = wrong or f"{text}: {len(devices)} device(s)"
        found.append(Finding(topic, "ASCEND_RT_VISIBLE_DEVICES", WARNING if wrong else WORKS, seen, remedy))
    if cann.error:
        return found
    physical = ", ".join(f"npu:{index} is {number}" for index, number in enumerate(cann.physical))
    found.append(Finding(topic, "devices", WORKS, f"{cann.devices} visible here" + (f" ({physical} for npu-smi)" if physical else "")))
    if cann.family:
        found.append(Finding(topic, "chip", WORKS, f"{cann.soc}: {cann.family}"))
    else:
        what = f"{cann.soc}: HIXL is documented for A2 (Ascend910B), A3 (Ascend910_93) and Ascend950"
        found.append(Finding(topic, "chip", WARNING, what, "try ray-hixl bringup, and tell us"))
    return found


def _device_nodes(machine: Machine, cann: Cann) -> Iterable[Finding]:
    if cann.fake:
        return
    nodes = sorted(path.name for path in machine.path("/dev").glob("davinci[0-9]*"))
    absent = [node for node in _NODES if not machine.path(node).exists()]
    where = "start the container with --device for each of them" if machine.is_container() else "install the driver (HDK)"
    if nodes:
        yield Finding("devices", "/dev/davinci*", WORKS, ", ".join(nodes))
    else:
        yield Finding("devices", "/dev/davinci*", MISSING, "there is none", where)
    if nodes and absent:
        yield Finding("devices", "device nodes", MISSING, f"not there: {', '.join(absent)}", where)


def check_network(machine: Machine, cann: Cann) -> list[Finding]:
    """The devices' own NICs. HIXL does not start on A2 and A3 if it does not find their addresses."""
    topic = "devices' network"
    found: list[Finding] = []
    if cann.family in ("A2", "A3"):
        found.append(_addresses(machine, cann, topic))
    found += _outputs(machine, cann, topic)
    return found


def _addresses(machine: Machine, cann: Cann, topic: str) -> Finding:
    file = machine.variable("FAKE_HIXL_HCCN_CONF") if cann.fake else ""
    file = file or "/etc/hccn.conf"
    text = machine.read(file)
    if text is None:
        tool = machine.tool("hccn_tool", _HCCN_TOOL)
        remedy = "mount /etc/hccn.conf into the container, or have hccn_tool there"
        if tool is None:
            return Finding(topic, file, MISSING, "it cannot be read, and there is no hccn_tool: HIXL will not start", remedy)
        return Finding(topic, file, WARNING, f"it cannot be read; HIXL asks {tool} instead", remedy)
    addresses = facts.hccn_addresses(text)
    absent = [number for number in cann.physical if number not in addresses]
    if absent:
        remedy = "configure the device's NIC: hccn_tool -i N -ip -s address A netmask M"
        return Finding(topic, file, MISSING, f"no address_{absent[0]}= in it: HIXL will not start on that device", remedy)
    return Finding(topic, file, WORKS, ", ".join(f"{number}: {addresses[number]}" for number in cann.physical) or "readable")


def _outputs(machine: Machine, cann: Cann, topic: str) -> Iterable[Finding]:
    """What the vendor's tools say. Shown for people; only their absence is judged, and never as more than a warning."""
    smi = machine.tool("npu-smi", _SMI)
    if smi is None:
        yield Finding(topic, "npu-smi info", WARNING, "there is no npu-smi", "mount /usr/local/bin/npu-smi and /usr/local/dcmi")
    else:
        well, text = machine.run([smi, "info"])
        yield Finding(topic, "npu-smi info", WORKS if well else WARNING, text, "" if well else "is the driver healthy? dmesg, plog")
    if cann.family not in ("A2", "A3"):
        return
    tool = machine.tool("hccn_tool", _HCCN_TOOL)
    if tool is None:
        yield Finding(topic, "hccn_tool", WARNING, "there is no hccn_tool", "mount /usr/local/Ascend/driver/tools")
        return
    for device in cann.physical:
        for what in ("link", "ip", "tls"):
            well, text = machine.run([tool, "-i", str(device), f"-{what}", "-g"])
            verdict, remedy = (WORKS, "") if well else (WARNING, "run it as root")
            if what == "link" and well and "up" not in text.lower():
                verdict, remedy = WARNING, "RoCE needs this link: cable, switch port, hccn_tool -optical -g"
            yield Finding(topic, f"hccn_tool -i {device} -{what} -g", verdict, text, remedy)
