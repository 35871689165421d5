"""The process that `fuzz_server.py` sends inputs to: `python -m tests.drills.fuzz.fuzzed_server MODELS`.

It prints its ports as a line of JSON. For every line that it reads it prints the paths, as JSON, that Python has opened
or listed since the start outside the models, the interpreter and its libraries.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

_EVENTS = ("open", "os.listdir", "os.scandir", "os.mkdir", "os.remove", "os.rename")


def main() -> None:
    """Serves until standard input ends."""
    from serving.server.config import ServeConfig
    from serving.server.server import ModelServer

    models = Path(sys.argv[1])
    allowed = tuple(
        str(path) for path in (models, sys.prefix, sys.base_prefix, Path(__file__).parents[2], *sys.path[1:])
    )
    elsewhere: set[str] = set()

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _EVENTS and isinstance(arguments[0], (str, bytes, os.PathLike)):
            path = os.path.abspath(os.fsdecode(arguments[0]))
            if not path.startswith((*allowed, "/proc", "/sys", "/dev")):
                elsewhere.add(path)

    config = ServeConfig(
        models={path.name: str(path) for path in models.iterdir()},
        port=0,
        rest_port=0,
        rest_timeout_s=5.0,
        poll_s=0.2,
        max_message_bytes=4 * 2**20,
        reload_roots=(str(models),),
    )
    with ModelServer(config) as server:
        sys.addaudithook(note)
        print(json.dumps({"grpc_port": server.grpc_port, "rest_port": server.rest_port}), flush=True)
        for _ in sys.stdin:
            print(json.dumps(sorted(elsewhere)), flush=True)


if __name__ == "__main__":
    main()
