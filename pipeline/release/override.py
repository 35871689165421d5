"""A model that failed gates and is allowed nevertheless: somebody's decision, on record with the reason.

The decision is of one model, by what tells its export from every other: the next training is judged anew. It lies in
the serving root (`serving.release.decisions`); the next run of the pipeline finds it when it comes to the evaluator,
and all that follows, the trial on a server, tables, push and release, is as of any blessed model.
"""

from __future__ import annotations

import hashlib

from features import storage
from features.errors import InputError
from pipeline.release.anchor import identity
from serving.release.decisions import Decision, decide, read_decisions
from serving.release.lock import locked


def find_override(serving_dir: storage.AnyPath, candidate: storage.AnyPath) -> str | None:
    """Returns who allowed a model whatever its gates say, and why; None where nobody did.

    Args:
      serving_dir: `<serving root>/<pipeline>_<model>`.
      candidate: the SavedModel that is judged.
    """
    made = read_decisions(storage.parent(serving_dir), storage.name(serving_dir))
    made = [each for each in made if each.how == "bless" and each.evidence.get("export") == export_id(candidate)]
    return f"{made[-1].by}: {made[-1].why}" if made else None


def override(
    serving_dir: storage.AnyPath, candidate: storage.AnyPath, failed_gates: dict[str, str], why: str, by: str | None
) -> Decision:
    """Puts on record that a model is allowed although it failed gates.

    Args:
      serving_dir: `<serving root>/<pipeline>_<model>`.
      candidate: the SavedModel.
      failed_gates: {name of a gate: what it found}.
      why: the reason.
      by: who decides; the user of this process by default.

    Raises:
      InputError: without a reason.
    """
    if not why.strip():
        raise InputError("an override takes a reason, which is kept: --reason '…'.")
    root, model = storage.parent(serving_dir), storage.name(serving_dir)
    evidence = {"export": export_id(candidate), "saved_model": str(candidate), "failed_gates": failed_gates}
    with locked(root):
        return decide(root, "bless", model, by=by, why=why.strip(), evidence=evidence)


def export_id(saved_model: storage.AnyPath) -> str:
    """Returns a digest of what tells an export from every other."""
    return hashlib.sha256(identity(saved_model)).hexdigest()
