"""Signatures of items that came after the training: made from their features, and given to a ranker beside its own.

A ranker looks the signatures of its training's catalogue up. An item that is newer gets one from the two-tower's item
tower, which needs its features alone, by the same hash and centre (`clickmill bse sign`); whoever serves the ranker or
builds its tables hands the signatures in, until the next training knows the item.
"""

from __future__ import annotations

import contextlib
import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features import storage
from features.errors import InputError, NotFoundError
from features.items.catalogue import item_rows
from features.items.signatures import SIGNATURES_FILE, ItemSignatures
from serving.export.item_embeddings import embeddings_to_sign, read_item_embeddings
from serving.saved.saved_model import resolve_version
from serving.saved.signature_specs import SIGNATURES_FOLDER
from serving.saved.two_tower import SavedTwoTower


def load_signatures(directory: storage.AnyPath) -> ItemSignatures:
    """Reads signatures: of BehaviorSignatures, of `clickmill bse sign`, or those that an exported ranker holds.

    Raises:
      NotFoundError: if there are none.
      InputError: if they are damaged.
    """
    places = [storage.join(directory)]
    with contextlib.suppress(NotFoundError):  # no SavedModel: a folder of signatures alone, or nothing
        places.append(storage.join(resolve_version(directory), SIGNATURES_FOLDER))
    for place in places:
        if storage.is_file(storage.join(place, SIGNATURES_FILE)):
            return ItemSignatures.load(place)
    raise NotFoundError(
        f"{directory} holds no `{SIGNATURES_FILE}`: give the folder of `clickmill bse sign`, or a ranker that looks "
        "signatures up (`signature_source`: two_tower), exported by this version."
    )


def sign_new_items(two_tower_dir: storage.AnyPath, signatures: ItemSignatures, items: pa.Table) -> ItemSignatures:
    """Adds items to signatures, embedded by their features.

    Args:
      two_tower_dir: the exported two-tower whose embeddings were signed.
      signatures: of the catalogue that it was trained with, or what this returned before.
      items: `item_id` and the raw features of `items` that the item tower reads; items that are signed already keep
        their signatures.

    Returns:
      The signatures of all: first those that were given, in their order.

    Raises:
      NotFoundError: if there is no two-tower.
      InputError: if it is not the one whose embeddings were signed, or a column is missing or does not fit.
    """
    two_tower = SavedTwoTower(two_tower_dir)
    _check_origin(two_tower, signatures)
    if "item_id" not in items.column_names:
        raise InputError(f"the items have no column `item_id`. Received: {', '.join(items.column_names)}.")
    ids = items["item_id"].combine_chunks()
    if ids.type != signatures.item_ids.type:
        raise InputError(f"`item_id` must be {signatures.item_ids.type}, as the signed items'. Received: {ids.type}.")
    return signatures.extended(ids, two_tower.embed_items(items, to_sign=True))


def _check_origin(two_tower: SavedTwoTower, signatures: ItemSignatures) -> None:
    """Another training's embeddings lie in another space: their signatures would tell nothing."""
    ids, embeddings = read_item_embeddings(embeddings_to_sign(two_tower.directory))
    if ids.type == signatures.item_ids.type and embeddings.shape[1] == signatures.dim:
        rows = item_rows(signatures.item_ids, ids)
        if (rows > 0).any() and np.array_equal(signatures.sign(embeddings), signatures.table()[rows]):
            return
    raise InputError(
        f"{two_tower.directory}: the signatures were not made of this two-tower's embeddings. Give the two-tower of "
        "the run that signed them (its item embeddings must have these very signatures)."
    )


class NewItemSignatures:
    """Signatures of the items that a ranker does not know.

    Args:
      given: of `load_signatures`.
      ranker_dir: the exported ranker, one version.

    Raises:
      InputError: if the ranker looks no signatures up, or was trained with others.

    Attributes:
      fingerprint: of what they hold, whatever the order.
    """

    def __init__(self, given: ItemSignatures, ranker_dir: storage.AnyPath):
        try:
            own = ItemSignatures.load(storage.join(ranker_dir, SIGNATURES_FOLDER))
        except FileNotFoundError as error:
            raise InputError(
                f"{ranker_dir}: the ranker holds no item signatures, so that it can take no others: it needs a long "
                "history with `signature_source`: two_tower, and to be exported by this version."
            ) from error
        if given.config != own.config or not np.array_equal(given.of(own.item_ids), own.signatures):
            raise InputError(
                f"{ranker_dir}: the ranker was trained with other signatures than those given. Sign the new items "
                "again with `--signatures` naming this ranker."
            )
        new = item_rows(own.item_ids, given.item_ids) == 0
        ids = given.item_ids.filter(pa.array(new))
        self._signatures = given.signatures[new].astype(np.int32)
        self._none = np.full(given.config.num_groups, -1, np.int32)
        keys = ids.cast(pa.binary()) if pa.types.is_string(ids.type) else ids
        # Made once: a request's items are looked up one by one.
        self._row_of = {item: row for row, item in enumerate(keys.to_pylist())}
        order = pc.sort_indices(ids)
        state = [
            given.config.model_dump_json(),
            ids.take(order).to_pylist(),
            self._signatures[order.to_numpy()].tolist(),
        ]
        self.fingerprint = hashlib.sha256(repr(state).encode()).hexdigest()[:32]

    @classmethod
    def load(cls, signatures_dir: storage.AnyPath, ranker_dir: storage.AnyPath) -> NewItemSignatures:
        """Reads what `clickmill bse sign` left; raises as `load_signatures` and as the constructor."""
        return cls(load_signatures(signatures_dir), ranker_dir)

    def of(self, item_ids: np.ndarray) -> np.ndarray:
        """Signatures of raw ids as a ranker's tensor holds them, [N] to [N, G] int32; -1: ask the ranker's own."""
        rows = [self._row_of.get(item, -1) for item in item_ids.tolist()]
        found = [self._signatures[row] if row >= 0 else self._none for row in rows]
        return np.stack(found) if found else np.zeros((0, len(self._none)), np.int32)

    def complete(
        self, item_ids: np.ndarray, signatures: np.ndarray, known: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Fills in what `encode_behaviors` did not know: signatures [T, G] int32 and [T] bool, whether there is one."""
        given = self.of(item_ids)
        fill = ~known & (given[:, 0] >= 0)
        return np.where(fill[:, np.newaxis], given, signatures), known | fill
