"""`kill -9` at random moments of promotions, beside readers: the label names the old release or the new one, whole.

    python -m tests.drills.kill_promote --kills 20 [--seed 0]

A process promotes two releases in turn, as fast as it can, and is killed; another reads the label and checks every
file of what it names, all the while. After each kill the label, the history and the lock must be as if the process had
ended, and `clickmill release` goes on from there.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time

from features.errors import InputError
from serving.release.contents import problems_of
from serving.release.labels import label_moves, promote, rollback
from serving.release.registry import Releases
from tests.serving.release.release_example import release

#: Promotes two releases in turn until it is killed.
PROMOTER = """
import sys
import serving.user_stores.bse.store  # which takes longer than promotions do
from serving.release.labels import promote
root, *names = sys.argv[1:]
print("begin", flush=True)
while True:
    for name in names:
        promote(root, name, "stable", by="drill")
"""

#: Reads until its standard input ends; prints how often, or what it found wrong.
READER = """
import select, sys
from serving.release.contents import problems_of
from serving.release.registry import Releases
releases, ids, read = Releases(sys.argv[1]), set(sys.argv[2:]), 0
print("begin", flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    found = releases.labelled("stable")
    assert found.id in ids and not problems_of(releases, found), found.id
    read += 1
print(read, flush=True)
"""


def start(code: str, *arguments: str) -> subprocess.Popen:
    command = [sys.executable, "-c", code, *arguments]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "begin\n"
    return process


def kill_once(root: str, names: list[str], seconds: float) -> str:
    """Kills promotions after a time; returns the id of the release that the label names then. Raises AssertionError."""
    process = start(PROMOTER, root, *names)
    time.sleep(seconds)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdin.close()
    process.stdout.close()
    releases = Releases(root)
    found = releases.labelled("stable")
    assert found.id in names, found.id
    assert problems_of(releases, found) == []
    moves = label_moves(releases)
    assert moves[-1].after == found.id, "the history ends where the label stands"
    assert all(one.after == two.before for one, two in zip(moves, moves[1:], strict=False)), "and has no gap"
    return found.id


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    generator = random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="clickmill-") as folder:
        root = os.path.join(folder, "serving_models")
        names = [release(root, version).id for version in (1, 2)]
        promote(root, names[0], "stable", by="drill")
        reader = start(READER, root, *names)
        ends = []
        try:
            for number in range(1, options.kills + 1):
                seconds = generator.uniform(0, 0.3)
                ends.append(kill_once(root, names, seconds))
                print(f"kill {number} after {1000 * seconds:.0f} ms: stable names {ends[-1]}, whole", flush=True)
            told, _ = reader.communicate("", timeout=60)
        finally:
            reader.kill()
        moves = len(label_moves(Releases(root)))
        # The lock died with its holder.
        try:
            rollback(root, "stable", by="drill")
        except InputError:
            promote(root, names[1], "stable", by="drill")
    if reader.returncode or not told.strip().isdecimal():
        raise SystemExit("the reader found a release that was not whole")
    print(f"{len(ends)} kills among {moves:,} promotions, {int(told):,} reads of a whole release beside them, 0 wrong")


if __name__ == "__main__":
    main()
