"""Writes the seed corpus from the examples of docs/protocol.md. Run it when the protocol changes, and commit what it writes."""

import pathlib
import re

HERE = pathlib.Path(__file__).resolve().parent
PAGE = HERE.parents[1] / "docs" / "protocol.md"
FRAME_HEADER_BYTES = 16
GROWN = re.compile("[0-9a-f]{40}")  # what libFuzzer found and tools/fuzz.py committed
NOT_FRAMES = ("engine_descriptor", "region_descriptor", "hello", "challenge", "proof")


def examples() -> dict[str, bytes]:
    """Name -> bytes of every block that begins with ```text <name>."""
    blocks = re.findall(r"^```text (\w+)\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    return {name: bytes.fromhex("".join(line.split("#")[0] for line in body.splitlines())) for name, body in blocks}


def decoder_seeds(seeds: dict[str, bytes]) -> dict[str, bytes]:
    """The examples, and what needs several of them: a session as each side hears it, and bodies without their headers."""
    frames = {name: data for name, data in seeds.items() if name not in NOT_FRAMES}
    bodies = {"body_" + name: data[FRAME_HEADER_BYTES:] for name, data in frames.items()}
    sessions = {
        "frames": b"".join(frames.values()),
        "server_hears": seeds["hello"] + seeds["proof"] + seeds["resolve"],
        "client_hears": seeds["challenge"] + seeds["welcome"],
    }
    return seeds | bodies | sessions


def session_seeds(seeds: dict[str, bytes]) -> dict[str, bytes]:
    """Settings (see fuzz_session.cc) and requests: each of them, and several in one stream."""
    control = {
        name: seeds[name]
        for name in (
            "resolve",
            "map_segment",
            "check",
            "locate",
            "describe_device",
            "await_recall",
            "release_device",
            "cannot_link",
            "stage",
        )
    }
    data = {"read": seeds["read"], "reads": seeds["read"] * 3, "resolve_for_data": seeds["resolve"]}
    several = {"all": b"".join(control.values()), "pieces": seeds["resolve"] * 2}
    settings = {name: b"\0\0" for name in control | several} | dict.fromkeys(data, b"\1\0") | {"pieces": b"\4\7", "check": b"\xf0\0"}
    return {name: settings[name] + data_ for name, data_ in (control | data | several).items()}


def write(folder: pathlib.Path, seeds: dict[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        if not GROWN.fullmatch(old.name):
            old.unlink()
    for name, data in seeds.items():
        (folder / name).write_bytes(data)


def main() -> None:
    seeds = examples()
    metadata = {name: seeds.pop(name) for name in list(seeds) if name.startswith("object_")}
    write(HERE / "corpus" / "session", session_seeds(seeds))
    write(HERE / "corpus" / "decoder", decoder_seeds(seeds))
    write(HERE / "corpus" / "metadata", metadata)


if __name__ == "__main__":
    main()
