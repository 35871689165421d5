"""Moving labels: promote and rollback, each one rename for readers, with a history of who moved what.

`label_moves.jsonl` is written before `labels.json`. Whatever kills a writer in between leaves a last move that never
took place, which shows: the label does not name what the move says. Readers of the history leave it out, and the next
writer drops it.
"""

from __future__ import annotations

import contextlib
import json
from datetime import datetime, timezone
from typing import Literal

from features import storage
from features.config import SpecError, Strict, parse_model
from features.errors import InputError, NotFoundError, RunError
from serving.release.contents import problems_of
from serving.release.decisions import decide, whoami
from serving.release.lock import locked
from serving.release.manifest import Release
from serving.release.registry import LABELS_FILE, Releases, check_label

MOVES_FILE = "label_moves.jsonl"


class LabelMove(Strict):
    """One move of a label.

    Attributes:
      label: the one that moved.
      before, after: ids of the releases; `before` is None where the label was new.
      by: who moved it.
      at: when, ISO 8601 in UTC.
      how: by which command.
    """

    label: str
    before: str | None
    after: str
    by: str
    at: str
    how: Literal["promote", "rollback"]


def label_moves(releases: Releases) -> list[LabelMove]:
    """Returns all moves of labels that took place, the oldest first.

    Raises:
      SpecError: if the history is damaged.
    """
    path = storage.join(releases.root, MOVES_FILE)
    labels = releases.labels()  # First: a move that is made meanwhile is then left out, rather than half read.
    try:
        lines = storage.read_text(path).splitlines()
    except FileNotFoundError:
        return []
    try:
        moves = [parse_model(json.loads(line), LabelMove, f"{path}:{n}") for n, line in enumerate(lines, start=1)]
    except (ValueError, AttributeError) as error:
        raise SpecError(
            f"{path}: {error}. Delete it: labels stay, and rollback knows nothing of moves before."
        ) from error
    if moves and labels.get(moves[-1].label) != moves[-1].after:
        moves.pop()
    return moves


def rollback_target(moves: list[LabelMove], label: str) -> str | None:
    """Returns the id of the release that a label named before its last promotion that was not rolled back.

    None where the label has none before. Rolling back twice goes back two promotions.
    """
    before: list[str | None] = []
    for move in moves:
        if move.label == label and move.how == "promote":
            before.append(move.before)
        elif move.label == label and before:
            before.pop()
    return before[-1] if before else None


def promote(
    root: storage.AnyPath, name: str, label: str, *, by: str | None = None, force: bool = False, why: str = ""
) -> LabelMove | None:
    """Lets a label name a release. Readers see the release before or this one, whole.

    Args:
      root: the serving root.
      name: id of the release, another label that names it, or `latest`.
      label: as `stable` or `canary`.
      by: who promotes it; the user of this process by default.
      force: whether the label may go to a release of another pipeline than the one that it names.
      why: what is kept as the reason.

    Returns:
      The move; None where the label names this release already.

    Raises:
      NotFoundError: if there is no such release.
      InputError: if the label cannot be one, or names another pipeline's release.
      RunError: if something that the release names is missing or has changed; the label stays.
    """
    check_label(label)
    releases = Releases(root)
    with locked(root):
        release = releases.find(name)
        before = releases.labels().get(label)
        if before == release.id:
            return None
        if before is not None and not force:
            # A release before that is gone or damaged is no reason to keep its label there.
            with contextlib.suppress(SpecError, NotFoundError):
                _refuse_other_pipeline(releases.get(before), release, label)
        return _move(releases, release, label, by, why, "promote")


def rollback(root: storage.AnyPath, label: str, *, by: str | None = None, why: str = "") -> LabelMove:
    """Lets a label name the release that it named before its last promotion. Rolling back again goes further back.

    Args:
      root: the serving root.
      label: as `stable`.
      by: who rolls back; the user of this process by default.
      why: what is kept as the reason.

    Raises:
      NotFoundError: if there is no such label, or the release before is gone.
      InputError: if the label named no release before.
      RunError: if something that the release before names is missing or has changed; the label stays.
    """
    releases = Releases(root)
    with locked(root):
        current = releases.labels().get(check_label(label))
        if current is None:
            releases.labelled(label)  # which says what labels there are
        target = rollback_target(label_moves(releases), label)
        if target is None or target == current:
            raise InputError(
                f"`{label}` names {current}, and no release that it named before is known: choose one by "
                f"`clickmill release promote ID --label {label}`."
            )
        return _move(releases, releases.get(target), label, by, why, "rollback")


def _refuse_other_pipeline(before: Release, release: Release, label: str) -> None:
    if before.pipeline and release.pipeline and before.pipeline != release.pipeline:
        raise InputError(
            f"`{label}` names a release of the pipeline `{before.pipeline}`, and {release.id} is one of "
            f"`{release.pipeline}`: the models of the other would be served no more. Give it a label of its own, or "
            "use --force."
        )


def _move(releases: Releases, release: Release, label: str, by: str | None, why: str, how: str) -> LabelMove:
    problems = problems_of(releases, release)
    if problems:
        raise RunError(f"{release.id} cannot be served, and `{label}` stays as it is: " + " ".join(problems))
    labels = releases.labels()
    move = LabelMove(
        label=label,
        before=labels.get(label),
        after=release.id,
        by=by or whoami(),
        at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        how=how,
    )
    evidence = {"label": label, "before": move.before, "metrics": release.metrics, "allowed_by": release.allowed_by}
    decide(releases.root, how, release.id, by=move.by, why=why, evidence=evidence)
    moves = [*label_moves(releases), move]
    history = "".join(each.model_dump_json() + "\n" for each in moves)
    storage.write_text(storage.join(releases.root, MOVES_FILE), history, durable=True)
    # The one step that readers see.
    text = json.dumps(labels | {label: release.id}, indent=2, sort_keys=True) + "\n"
    storage.write_text(storage.join(releases.root, LABELS_FILE), text, durable=True)
    return move
