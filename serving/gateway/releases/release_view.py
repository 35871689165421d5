"""One release, opened: what the gateway needs of it beside the server."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from evaluation.cascade.config import CascadeConfig
from features import arrow, storage
from features.errors import InputError
from features.histories.windows import TIMESTAMP
from features.items.catalogue import item_rows
from features.spec import FeatureSpec
from serving.release.manifest import Release, ReleasedModel
from serving.release.registry import Releases
from serving.requests.item_catalogue import ItemCatalogue
from serving.requests.stage_inputs import RequestInputs, coarse_inputs, ranker_inputs, two_tower_inputs
from serving.saved.saved_model import read_signatures, read_spec
from serving.saved.signature_specs import (
    ATTENTION_FIELDS_FILE,
    COARSE_RANK,
    EXPLAIN,
    RETRIEVE,
    SERVING_DEFAULT,
    HistoryInputs,
)
from serving.user_stores.bse.store import BseStore
from serving.user_stores.profiles.store import ProfileStore, open_profiles


@dataclass(frozen=True)
class StageModel:
    """A model of a release as a stage of the cascade.

    Attributes:
      released: its name and version, which every call of it names.
      signature: the one that the stage calls.
      inputs: what that takes of a request.
      signatures: the names of the inputs of all signatures.
    """

    released: ReleasedModel
    signature: str
    inputs: RequestInputs
    signatures: dict[str, frozenset[str]]

    def only_inputs(self, tensors: dict[str, np.ndarray], signature: str | None = None) -> dict[str, np.ndarray]:
        """Those of some tensors that a signature takes: a server refuses others."""
        wanted = self.signatures[signature or self.signature]
        return {name: values for name, values in tensors.items() if name in wanted}


@dataclass(frozen=True)
class ReleaseView:
    """A release, open for reading. Everything that an answer is made of comes from one view.

    Attributes:
      release: its manifest.
      fine: the fine ranker.
      retrieval, coarse: the other stages; None: the release has none.
      cascade: how many items pass each stage.
      catalogue: the items as the fine ranker takes them; None: it has none.
      items: [n] the raw features of the same items.
      popular: rows of the catalogue of its popular items, most clicked first; empty where the release names none.
      tables: the bucket tables of the fine ranker; None: it reads none.
      profiles: features and short histories of users; None: the release has none.
      history: what the fine ranker takes of histories.
      attention_fields: names of the fields of `explain`; None: its export does not say.
    """

    release: Release
    fine: StageModel
    retrieval: StageModel | None
    coarse: StageModel | None
    cascade: CascadeConfig
    catalogue: ItemCatalogue | None
    items: pa.Table | None
    popular: np.ndarray
    tables: BseStore | None
    profiles: ProfileStore | None
    history: HistoryInputs | None
    attention_fields: tuple[str, ...] | None
    _open: contextlib.ExitStack = field(default_factory=contextlib.ExitStack, repr=False)

    @classmethod
    def open(cls, releases: Releases, release: Release) -> ReleaseView:
        """Opens a release whole, or not at all; takes a second for a large catalogue.

        Raises:
          InputError: if the release has no fine ranker, or something that it names is missing or damaged.
        """
        with contextlib.ExitStack() as opened:
            fine, history = _fine(releases, release)
            chain = {} if release.cascade is None else release.cascade_models
            retrieval = _retrieval(releases, release, chain.get("retrieval"))
            coarse = _coarse(releases, release, chain.get("coarse"))
            _check_one_row(release, fine, [stage for stage in (retrieval, coarse) if stage is not None])
            items = None if release.catalogue is None else arrow.read_parquet(releases.path(release.catalogue))
            catalogue = None if items is None else ItemCatalogue(items, fine.inputs.spec)
            found = release.tables_of(fine.released.name)
            reads = found is not None and fine.inputs.takes_table
            return cls(
                release=release,
                fine=fine,
                retrieval=retrieval,
                coarse=coarse,
                cascade=release.cascade or CascadeConfig(),
                catalogue=catalogue,
                items=items,
                popular=_popular(releases, release, catalogue),
                tables=opened.enter_context(BseStore(releases.path(found.path), history.version, follow=True))
                if reads
                else None,
                profiles=None
                if release.profiles is None
                else opened.enter_context(open_profiles(releases.path(release.profiles), follow=True)),
                history=history,
                attention_fields=_attention_fields(releases, fine),
                _open=opened.pop_all(),
            )

    @property
    def id(self) -> str:
        """Of the release."""
        return self.release.id

    @property
    def spec(self) -> FeatureSpec:
        """The features of a request: those of the fine ranker."""
        return self.fine.inputs.spec

    @property
    def stages(self) -> list[StageModel]:
        """The stages that there are, in their order."""
        return [stage for stage in (self.retrieval, self.coarse, self.fine) if stage is not None]

    def with_catalogue_features(self, candidates: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """A caller's candidates, with the catalogue's features of those items that it holds under what they say."""
        if self.catalogue is None or self.items is None:
            return list(candidates)
        ids = [candidate.get("item_id") for candidate in candidates]
        # What can be no id is refused when the candidates are read.
        rows = [self.catalogue.row_of(each) if isinstance(each, str | int) else -1 for each in ids]
        names = [each.name for each in self.spec.of_scope("candidate") if each.name in self.items.column_names]
        known = iter(self.items.select(names).take(pa.array([row for row in rows if row >= 0], pa.int64())).to_pylist())
        return [
            {**next(known), **candidate} if row >= 0 else candidate
            for row, candidate in zip(rows, candidates, strict=True)
        ]

    def on_close(self, call: Callable[[], None]) -> None:
        """Has something called when the stores are closed, before that."""
        self._open.callback(call)

    def close(self) -> None:
        """Closes the stores."""
        self._open.close()


def _fine(releases: Releases, release: Release) -> tuple[StageModel, HistoryInputs | None]:
    name = release.cascade_models.get("fine") or next((m.name for m in release.models if m.stage == "fine"), None)
    if name is None:
        raise InputError(f"{release.id} has no fine ranker: the gateway has nothing to rank by.")
    model, folder, signatures = _parts(releases, release, name)
    history = HistoryInputs.load(folder)
    inputs = ranker_inputs(read_spec(folder, "ranker"), history, signatures[SERVING_DEFAULT])
    return StageModel(model, SERVING_DEFAULT, inputs, signatures), history


def _retrieval(releases: Releases, release: Release, name: str | None) -> StageModel | None:
    if name is None:
        return None
    model, folder, signatures = _parts(releases, release, name)
    inputs = two_tower_inputs(read_spec(folder, "two-tower"), signatures[RETRIEVE])
    return StageModel(model, RETRIEVE, inputs, signatures)


def _coarse(releases: Releases, release: Release, name: str | None) -> StageModel | None:
    if name is None:
        return None
    model, folder, signatures = _parts(releases, release, name)
    history = HistoryInputs.load(folder)
    if history is None:
        raise InputError(f"{folder} does not say what it takes of histories: it is no coarse ranker.")
    inputs = coarse_inputs(read_spec(folder, "coarse ranker"), history, signatures[COARSE_RANK])
    return StageModel(model, COARSE_RANK, inputs, signatures)


def _check_one_row(release: Release, fine: StageModel, others: list[StageModel]) -> None:
    """One raw row, made for the fine ranker, is asked about in all stages: it must hold what they read."""
    held = {feature.name: (feature.dtype, feature.multi_valued) for feature in fine.inputs.spec.features}
    for stage in others:
        inputs = stage.inputs
        for name in {*inputs.names, *(each for names in inputs.windows.values() for each in names)} - {TIMESTAMP}:
            if held.get(name) != (inputs.spec[name].dtype, inputs.spec[name].multi_valued):
                raise InputError(
                    f"{release.id}: {stage.released.path} reads `{name}`, which {fine.released.path} does not know in "
                    "that form: the models of a cascade are trained with one feature spec."
                )


def _parts(releases: Releases, release: Release, name: str) -> tuple[ReleasedModel, str, dict[str, frozenset[str]]]:
    model = release.model(name)
    if model is None:
        raise InputError(f"{release.id} names `{name}` as a stage and holds no such model.")
    folder = releases.path(model.path)
    return model, folder, read_signatures(folder)


def _attention_fields(releases: Releases, fine: StageModel) -> tuple[str, ...] | None:
    path = storage.join(releases.path(fine.released.path), ATTENTION_FIELDS_FILE)
    if EXPLAIN not in fine.signatures or not storage.is_file(path):
        return None
    return tuple(json.loads(storage.read_bytes(path)))


def _popular(releases: Releases, release: Release, catalogue: ItemCatalogue | None) -> np.ndarray:
    if catalogue is None or release.popular_items is None:
        return np.zeros(0, np.int64)
    ids = arrow.one_chunk(arrow.read_parquet(releases.path(release.popular_items), ["item_id"])["item_id"])
    rows = item_rows(catalogue.item_ids, ids).astype(np.int64) - 1
    return rows[rows >= 0]
