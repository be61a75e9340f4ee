"""Checks of single sources that are slow, and whose verdict is remembered by the hash of what they read."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
INCLUDED = re.compile(rb'^#include "(.+)"', re.MULTILINE)
FOLDERS = (ROOT / "src", ROOT / "include")


def included_by(source: Path) -> set[Path]:
    """The file and all headers of this repository that it includes, directly or not."""
    found: set[Path] = set()
    waiting = [source]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        names = [name.decode() for name in INCLUDED.findall(path.read_bytes())]
        places = [folder / name for name in names for folder in (path.parent, *FOLDERS)]
        waiting += [place for place in places if place.is_file()]
    return found


def digest(source: Path, settings: bytes) -> str:
    whole = hashlib.sha256(settings)
    for path in sorted(included_by(source)):
        whole.update(b"\0" + str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return whole.hexdigest()


def check_changed(name: str, sources: Iterable[Path], settings: bytes, passes: Callable[[Path], bool]) -> tuple[int, bool]:
    """Runs `passes` for each source that has not passed before as it is, under these settings. How many those were, and do all pass?"""
    cache = ROOT / "build" / "remembered" / name
    cache.mkdir(parents=True, exist_ok=True)
    stamps = {source: cache / digest(source, settings) for source in sources}
    todo = [source for source, stamp in stamps.items() if not stamp.exists()]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        verdicts = list(pool.map(passes, todo))
    for source, passed in zip(todo, verdicts, strict=True):
        if passed:
            stamps[source].touch()
    return len(todo), all(verdicts)
