"""Two runs of one profile never interleave, also where every node of a run is a process of its own.

    HOME/locks/run.lock     held by whoever works: shared by the nodes of one run, alone by a whole run
    HOME/locks/run.json     which run has the profile, and when its last node began or ended (`Turn`)
    HOME/locks/state.lock   held while `run.json`, or `timings.json`, is read and written
    HOME/locks/<node>.lock  held by the process that runs this node

The kernel frees the locks of a process that dies, so a whole run that was killed is in nobody's way. Between two nodes
of a run nobody holds a lock: there `run.json` speaks for it, until the run ends, fails, or was idle for `PATIENCE_S`.
A run that lost its turn begins again at its first node: what it judged stood beside the models of that time.

Locks are those of one file system; it may be one that several machines mount. A folder on an object store has none:
there the orchestrator lets one run at a time begin (`max_active_runs`, as `clickmill airflow export` writes it).
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from typing import Literal

from features import storage
from features.config import Strict, parse_model
from features.errors import RunError
from serving.release.decisions import whoami
from serving.release.lock import locked_file

LOCKS = "locks"
TURN_FILE = "run.json"
#: Seconds after which a run that does nothing between two of its nodes has lost its turn.
PATIENCE_S = 1800.0


class BusyError(RunError):
    """Another run of the profile is under way. The exit code is EX_TEMPFAIL of sysexits.h: try again later."""

    exit_code = 75


class Turn(Strict):
    """Which run has a profile.

    Attributes:
      run: its id.
      by: who runs it, and where.
      whole: whether one process runs all its nodes.
      state: `open` while nodes are to come; `failed` where the last one failed.
      touched: when its last node began or ended, in seconds since 1970.
    """

    run: str
    by: str
    whole: bool
    state: Literal["open", "failed", "finished"]
    touched: float


@contextlib.contextmanager
def turn_of_run(home: storage.AnyPath, run: str) -> Iterator[None]:
    """Holds a profile for a whole run while the block lasts.

    Args:
      home: the folder of the profile's runs.
      run: the id of the run.

    Raises:
      BusyError: if another run is under way.
    """
    if not storage.is_local(home):
        yield
        return
    with contextlib.ExitStack() as held:
        with state_lock(home):
            _take(home, run, whole=True, starts=True)
            held.enter_context(_work(home, run, shared=False, wait=False))
        with _told(home, run, whole=True, last=True):
            yield


@contextlib.contextmanager
def turn_of_node(
    home: storage.AnyPath, run: str, node: str, *, starts: bool, last: bool, alone: bool
) -> Iterator[None]:
    """Holds a profile for one node of a run while the block lasts; waits for other nodes of that run where it must.

    Args:
      home: the folder of the profile's runs.
      run: the id of the run.
      node: the id of the node; another process that runs the same one is waited for.
      starts: whether the node is a first one of the run: only there may a run that lost its turn begin again.
      last: whether the run ends with it.
      alone: whether no other node of the run may run meanwhile.

    Raises:
      BusyError: if another run is under way, or had its turn since this one began.
    """
    if not storage.is_local(home):
        yield
        return
    with contextlib.ExitStack() as held:
        held.enter_context(locked_file(_path(home, f"{node}.lock")))
        with state_lock(home):
            _take(home, run, whole=False, starts=starts)
        held.enter_context(_work(home, run, shared=not alone, wait=True))
        with _told(home, run, whole=False, last=last):
            yield


def read_turn(home: storage.AnyPath) -> Turn | None:
    """Returns which run has a profile; None where none ever had. Raises `SpecError` for a damaged file."""
    path = _path(home, TURN_FILE)
    try:
        return parse_model(json.loads(storage.read_text(path)), Turn, path)
    except FileNotFoundError:
        return None


def state_lock(home: storage.AnyPath) -> contextlib.AbstractContextManager[None]:
    """Returns the lock under which processes of one run change what lies beside one another in its folder."""
    return locked_file(_path(home, "state.lock")) if storage.is_local(home) else contextlib.nullcontext()


def _take(home: storage.AnyPath, run: str, whole: bool, starts: bool) -> None:
    """Gives the profile to a run, if it may have it; the state's lock is held meanwhile."""
    turn = read_turn(home)
    if turn is not None and turn.run != run:
        with _work(home, run, shared=False, wait=False):
            pass  # Nobody works now.
        idle = time.time() - turn.touched
        if turn.state == "open" and not turn.whole and idle < PATIENCE_S:
            raise BusyError(
                f"{home}: the run {turn.run} by {turn.by} is under way: its last node began or ended {idle:.0f} s "
                f"ago, and more are to come. It loses its turn after {PATIENCE_S:.0f} s; two runs never interleave."
            )
        if not starts:
            raise BusyError(
                f"{home}: since the run {run} began, the run {turn.run} by {turn.by} had its turn. Run it again "
                "from its first node: what has not changed comes from the cache."
            )
    _write(home, Turn(run=run, by=whoami(), whole=whole, state="open", touched=time.time()))


@contextlib.contextmanager
def _work(home: storage.AnyPath, run: str, shared: bool, wait: bool) -> Iterator[None]:
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locked_file(_path(home, "run.lock"), shared=shared, wait=wait))
        except BlockingIOError as error:
            turn = read_turn(home)
            who = f"the run {turn.run} by {turn.by}" if turn else "another run"
            same = " already" if turn and turn.run == run else ""
            raise BusyError(f"{home}: {who} is under way{same}: wait for it to end.") from error
        yield


@contextlib.contextmanager
def _told(home: storage.AnyPath, run: str, whole: bool, last: bool) -> Iterator[None]:
    """Notes how the block ended."""
    state: Literal["open", "failed", "finished"] = "failed"
    try:
        yield
        state = "finished" if last else "open"
    finally:
        with state_lock(home):
            _write(home, Turn(run=run, by=whoami(), whole=whole, state=state, touched=time.time()))


def _write(home: storage.AnyPath, turn: Turn) -> None:
    storage.write_text(_path(home, TURN_FILE), turn.model_dump_json(indent=2) + "\n")


def _path(home: storage.AnyPath, name: str) -> str:
    return storage.join(home, LOCKS, name)
