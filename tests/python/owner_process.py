"""The other process of support.Owner: runs what comes over a connection, until that is closed."""

from __future__ import annotations

import sys
from multiprocessing.connection import Connection
from typing import Any

import ray_hixl


def main() -> None:
    connection = Connection(int(sys.argv[1]))
    names: dict[str, Any] = {"ray_hixl": ray_hixl}
    while True:
        try:
            how, code, given = connection.recv()
        except EOFError:
            return
        names.update(given)
        try:
            if how == "exec":
                exec(code, names)
            connection.send((eval(code, names) if how == "eval" else None, None))
        except BaseException as error:
            connection.send((None, error))


if __name__ == "__main__":
    main()
