"""Batch prediction: files of requests scored with a ranker, in parts that a job which was killed goes on from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from features import storage
from features.errors import ClickmillError, InputError, RunError
from features.examples.request_files import UNIT_BYTES, RequestUnit, plan_units
from features.examples.score_units import score_units
from serving.offline.prediction_parts import (
    FORMAT,
    PREDICTION_FILE,
    PartCounts,
    PredictionJob,
    failed_path,
    read_part,
    rejected_path,
    scores_path,
    settle,
)
from serving.offline.request_scorer import RequestScorer, tables_build
from serving.release.cascade_options import model_path, tables_path
from serving.release.contents import model_problems, take_stock
from serving.release.manifest import fingerprint
from serving.release.registry import Releases
from serving.saved.saved_model import read_spec, resolve_version
from serving.saved.signature_specs import HistoryInputs
from serving.user_stores.bse.item_signatures import NewItemSignatures

#: A larger share of requests that cannot be ranked fails a prediction.
MAX_REJECTED = 0.05


class RejectedRequestsError(RunError):
    """More requests could not be ranked than the caller allows."""


@dataclass(frozen=True)
class PredictionModel:
    """What is scored with.

    Attributes:
      path: the exported ranker, one version or their base directory.
      tables: the store that long histories come from; None: from the requests' own `history`.
      release: id of the release that names both; None: they were given by themselves.
    """

    path: str
    tables: str | None = None
    release: str | None = None


def released_model(root: storage.AnyPath, name: str, ranker: str | None = None) -> PredictionModel:
    """Returns the ranker of a release, with the tables that it reads.

    Args:
      root: the serving root.
      name: id of the release, a label, or `latest`.
      ranker: which of its models; by default the fine ranker of its cascade, or the only one that it holds.

    Raises:
      NotFoundError: if there is no such release.
      InputError: if it holds no such model, or several that it could be.
      RunError: if the model's files are not those that were released.
    """
    releases = Releases(root)
    release = releases.find(name)
    if ranker is None:
        fine = [model.name for model in release.models if model.stage == "fine"]
        ranker = release.cascade_models.get("fine") or (fine[0] if len(fine) == 1 else None)
    if ranker is None:
        held = ", ".join(model.name for model in release.models)
        raise InputError(f"{release.id} does not say which ranker is meant: give one by --ranker. It holds: {held}.")
    path, tables = model_path(releases, release, ranker), tables_path(releases, release, ranker)
    problems = model_problems(releases, release.model(ranker))
    if problems:
        raise RunError(f"{release.id} is not whole: {problems[0]} Promote another release, or push the model again.")
    return PredictionModel(path, tables, release.id)


def predict_requests(
    requests: Sequence[str],
    out_dir: storage.AnyPath,
    model: PredictionModel,
    *,
    signatures: storage.AnyPath | None = None,
    top: int | None = None,
    max_rejected: float = MAX_REJECTED,
    unit_bytes: int = UNIT_BYTES,
    overwrite: bool = False,
    root=None,
) -> dict[str, Any]:
    """Scores files of requests, a file of scores a unit; units that are scored already are left as they are.

    Args:
      requests: files, folders or globs (`features.examples.request_files.plan_units`).
      out_dir: the folder of the scores: `scores-*.parquet`, `rejected-*.parquet`, and at the end `prediction.json`.
      model: the ranker, from `released_model` or by its path.
      signatures: where `clickmill bse sign` left those of items that the ranker was not trained with.
      top: how many candidates of a request are kept, the best first; by default all, in their order.
      max_rejected: the share of requests that may be such that they cannot be ranked.
      unit_bytes: size of the parts that text files are cut into.
      overwrite: whether to delete what another job left in the folder.
      root: a Beam pipeline whose runner and options are taken; in-process by default.

    Returns:
      What `prediction.json` holds: the job, what became of the requests of each file and of all; and beside it `units`
      and `scored_now`, how many units there are and how many of them were scored by this call.

    Raises:
      NotFoundError: if there is no ranker, no store or no file of requests.
      InputError: if a file cannot be read, or the ranker takes no tables or no signatures.
      OccupiedError: if the folder holds what another job left.
      RejectedRequestsError: if too many requests cannot be ranked; the files are there by then, `prediction.json` not.
    """
    if top is not None and top < 1:
        raise InputError(f"`top` must be positive. Received: {top}.")
    units = plan_units(requests, unit_bytes)
    folder = storage.absolute(out_dir)
    inside = next((unit.path for unit in units if unit.path.startswith(f"{folder.rstrip('/')}/")), None)
    if inside is not None:
        raise InputError(f"{inside} lies in the folder that the scores are written to: give another --out.")
    directory = resolve_version(model.path)
    job = describe_job(directory, model, signatures, top)
    pending = settle(folder, job, units, overwrite)
    storage.make_folder(folder)
    if pending:
        score_units(pending, RequestScorer(folder, job, directory, model.tables, signatures), root)
        _raise_failures(folder, pending)
    found = _summary(folder, job, units)
    _check_rejected(found, folder, max_rejected)
    text = json.dumps(found, indent=2, ensure_ascii=False) + "\n"
    storage.write_text(storage.join(folder, PREDICTION_FILE), text, durable=True)
    return {**found, "units": len(units), "scored_now": len(pending)}


def describe_job(
    directory: str, model: PredictionModel, signatures: storage.AnyPath | None, top: int | None
) -> PredictionJob:
    """Returns everything but the requests that scores depend on. Reads the ranker's files, and opens the store."""
    read_spec(directory, "ranker")
    version, build = _tables_of(directory, model.tables)
    numbered = storage.name(directory).isdecimal()
    return PredictionJob(
        model=storage.name(storage.parent(storage.absolute(directory)) if numbered else directory),
        model_version=int(storage.name(directory)) if numbered else None,
        model_digest=fingerprint([file.model_dump() for file in take_stock(directory)]),
        release=model.release,
        tables_version=version,
        tables_build=build,
        signatures=None if signatures is None else NewItemSignatures.load(signatures, directory).fingerprint,
        top=top,
        format=FORMAT,
    )


def _tables_of(directory: str, tables: str | None) -> tuple[str | None, str | None]:
    """The version of the tables that a ranker reads from a store, and a digest of their build."""
    if tables is None:
        return None, None
    history = HistoryInputs.load(directory)
    if history is None or history.simhash is None:
        raise InputError(f"the ranker in {directory} takes no bucket tables: leave the store out.")
    from serving.user_stores.bse.store import BseStore

    with BseStore(tables, history.version) as store:
        return history.version, tables_build(store.header)


def _raise_failures(folder: str, units: Sequence[RequestUnit]) -> None:
    """Raises what the first unit said that could not be read; all others are scored by then."""
    said = []
    for unit in units:
        path = failed_path(folder, unit)
        if storage.is_file(path):
            said.append(json.loads(storage.read_text(path)))
            storage.delete(path)
    if not said:
        return
    others = f" {len(said) - 1} more could not be read either." if len(said) > 1 else ""
    kind: type[ClickmillError] = InputError if said[0]["exit_code"] == InputError.exit_code else RunError
    raise kind(f"{said[0]['message']}{others} The same command goes on from here.")


def _summary(folder: str, job: PredictionJob, units: Sequence[RequestUnit]) -> dict[str, Any]:
    """What became of all requests, by file."""
    total = PartCounts()
    files: dict[str, PartCounts] = {}
    for unit in units:
        part = read_part(scores_path(folder, unit))
        if part is None:
            raise RunError(f"{scores_path(folder, unit)} is not there: the job did not end. Start it again.")
        total = total.plus(part.counts)
        files[unit.path] = files.get(unit.path, PartCounts()).plus(part.counts)
    # Held here rather than trusted: nothing is lost on the way.
    if total.requests != total.scored + total.empty + total.rejected:
        raise RunError(f"{folder}: the counts do not add up: {total.model_dump()}. Start again with --overwrite.")
    return {
        "job": job.model_dump(),
        "total": total.model_dump(),
        "files": {path: counts.model_dump() for path, counts in files.items()},
        "rejected_files": [storage.name(p) for p in (rejected_path(folder, u) for u in units) if storage.is_file(p)],
    }


def _check_rejected(found: dict[str, Any], folder: str, most: float) -> None:
    total = found["total"]
    if total["rejected"] <= most * total["requests"]:
        return
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in total["reasons"].items())
    raise RejectedRequestsError(
        f"{total['rejected']:,} of {total['requests']:,} requests cannot be ranked ({reasons}), more than the share of "
        f"{most:g} that --max-rejected allows. {storage.join(folder, found['rejected_files'][0])} says why."
    )
