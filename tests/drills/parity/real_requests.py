"""Real requests as each signature of an export takes them, and what the joint graph computes for the same rows."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from features import storage
from features.arrow import one_chunk
from features.histories.time_gaps import NUM_GAP_BUCKETS
from serving.export.item_embeddings import ITEM_EMBEDDINGS_FILE, read_item_embeddings
from serving.export.warmup import behavior_requests, item_requests
from serving.requests.tensors import (
    candidate_counts,
    flatten_candidates,
    item_tensor,
    tensors_from_table,
    to_slates,
)
from serving.saved.ranker import SavedRanker
from serving.saved.signature_specs import (
    ANONYMOUS_EMBEDDING,
    ENCODE_BEHAVIORS,
    GAP_WEIGHTS,
    ITEM_EMBEDDING,
    ITEM_SIGNATURE,
    NUM_CANDIDATES,
    RANK_REQUESTS,
    RETRIEVE,
    USER_EMBEDDING,
)
from serving.validation.trial_requests import trial_of

Tensors = dict[str, np.ndarray]

#: Rows that the joint graph scores at once.
_JOINT_ROWS = 64


def requests_of(saved: SavedRanker, rows: pa.Table) -> dict[str, list[Tensors]]:
    """Returns each signature's requests, one a row.

    Args:
      saved: an export of any kind, opened.
      rows: raw requests with their windows (`features.examples.raw_sample.read_requests`).

    Returns:
      By signature, the inputs that it takes: of one request, or of the row's items or behaviours, 32 at most. Bucket
      tables are those of the row's own long window.
    """
    trial = trial_of(saved, rows)
    inputs = {signature: saved.inputs(signature) for signature in saved.signatures}
    found: dict[str, list[Tensors]] = {signature: [] for signature in inputs}
    for number in range(len(rows)):
        row = rows.slice(number, 1)
        of_users = trial.tensors(row) | _further_inputs(saved, row, number)
        for signature, wanted in inputs.items():
            tensors = _list_inputs(saved, signature, row, number)
            tensors = of_users if tensors is None else tensors
            found[signature].append({name: tensors[name] for name in wanted})
    return found


def _further_inputs(saved: SavedRanker, row: pa.Table, number: int) -> Tensors:
    """Inputs that only some signatures have: `k`, listed items, signatures of items that a catalogue lacks."""
    counts = candidate_counts(row)
    ids = item_tensor(flatten_candidates(one_chunk(row["item_id"]), counts, "item_id"))
    found = to_slates({"item_id": ids}, counts) | {"k": np.array([1 + 37 * number % 200], np.int32)}
    simhash = None if saved.history is None else saved.history.simhash
    if simhash is not None:
        random = np.random.default_rng(number)
        given = random.integers(0, simhash.num_buckets, (*found["item_id"].shape, simhash.num_groups), dtype=np.int32)
        given[:, ::2] = -1  # leaves every other item to the catalogue
        found[ITEM_SIGNATURE] = given
    return found


def _list_inputs(saved: SavedRanker, signature: str, row: pa.Table, number: int) -> Tensors | None:
    """Inputs of a signature that takes a list of items or behaviours; None: it takes requests."""
    if signature in (ITEM_EMBEDDING, ANONYMOUS_EMBEDDING):
        names = [feature.name for feature in saved.spec.features if feature.name in saved.inputs(signature)]
        return item_requests(saved.spec, row, names)[-1]
    if signature == ENCODE_BEHAVIORS:
        return behavior_requests(saved.spec, row, saved.history.long_features)[-1]
    if signature == GAP_WEIGHTS:
        return {"gap": (number + np.arange(1 + number % 9, dtype=np.int32)) % NUM_GAP_BUCKETS}
    return None


def joint_scores(saved: SavedRanker, rows: pa.Table) -> list[Tensors] | None:
    """Returns what the joint graph computes, `score` and `logit` `[n]` a row; None: the export has no joint graph."""
    if not hasattr(saved._module, RANK_REQUESTS):
        return None
    found: list[Tensors] = []
    for start in range(0, len(rows), _JOINT_ROWS):
        part = rows.slice(start, _JOINT_ROWS)
        outputs = saved.run(
            RANK_REQUESTS, tensors_from_table(saved.spec, part, saved.history, saved.inputs(RANK_REQUESTS))
        )
        ends = np.cumsum(candidate_counts(part))[:-1]
        parts = {name: np.split(values, ends) for name, values in outputs.items()}
        found += [{name: parts[name][number] for name in outputs} for number in range(len(part))]
    return found


def own_candidates(request: Tensors, outputs: Tensors) -> Tensors:
    """Returns `score` and `logit` `[n]` of a request's own candidates, from outputs of `serving_default` `[1, N]`."""
    (count,) = request[NUM_CANDIDATES]
    return {name: outputs[name][0, :count] for name in ("score", "logit")}


def nearest_scores(saved: SavedRanker, requests: dict[str, list[Tensors]]) -> list[Tensors] | None:
    """Returns the scores of `retrieve` by exact search, `[1, k]` a row; None: the export does not retrieve.

    Args:
      saved: the export.
      requests: of `requests_of`.
    """
    if RETRIEVE not in saved.signatures:
        return None
    _, vectors = read_item_embeddings(storage.join(saved.directory, ITEM_EMBEDDINGS_FILE))
    found = []
    for user, asked in zip(requests[USER_EMBEDDING], requests[RETRIEVE], strict=True):
        scores = saved.run(USER_EMBEDDING, user)["embedding"].astype(np.float64) @ vectors.T.astype(np.float64)
        best = -np.sort(-scores, axis=1)[:, : int(asked["k"][0])]
        found.append({"score": best.astype(np.float32)})
    return found
