"""Writes the seed corpus from the examples of docs/protocol.md. Run it when the protocol changes, and commit what it writes."""

import pathlib
import re

HERE = pathlib.Path(__file__).resolve().parent
PAGE = HERE.parents[1] / "docs" / "protocol.md"
FRAME_HEADER_BYTES = 16
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


def write(folder: pathlib.Path, seeds: dict[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for name, data in seeds.items():
        (folder / name).write_bytes(data)


def main() -> None:
    seeds = examples()
    metadata = {name: seeds.pop(name) for name in list(seeds) if name.startswith("object_")}
    write(HERE / "corpus" / "decoder", decoder_seeds(seeds))
    write(HERE / "corpus" / "metadata", metadata)


if __name__ == "__main__":
    main()
