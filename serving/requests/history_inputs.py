"""What an exported ranker takes of behaviour histories: window tensors, or a user's bucket table."""

from __future__ import annotations

import hashlib
from pathlib import Path

from features.config import Strict
from features.items.simhash import SimHashConfig
from features.spec import FeatureSpec

#: `[1, G, 2^tau, d]` float32: the raw bucket sums of the request's user (BSE).
LONG_SUMS = "long_sums"

#: `[T, …]` one row a behaviour: signs and embeds behaviours for BSE.
ENCODE_BEHAVIORS = "encode_behaviors"

#: Where an export says what it takes, inside the SavedModel.
BSE_FILE = "assets.extra/bse.json"


class HistoryInputs(Strict):
    """The history inputs of an exported ranker.

    Attributes:
      short_features: inputs `short_<feature>` `[B, S]`, with `short_length` `[B]`: the last behaviours.
      long_features: inputs `long_<feature>` `[B, L]`, with `long_length` `[B]`: those before. Where `dim` is set,
        `serving_default` takes `long_sums` instead.
      short_length: behaviours of the short window, at most.
      long_length: behaviours of the long window, at most.
      version: of everything that bucket sums depend on: embeddings, signatures, hash, windows.
      simhash: the hash of the long history; None: the ranker takes no table.
      dim: width of a behaviour's embedding in the table.
    """

    short_features: tuple[str, ...]
    long_features: tuple[str, ...]
    short_length: int
    long_length: int
    version: str
    simhash: SimHashConfig | None
    dim: int | None

    @classmethod
    def of(cls, model, spec: FeatureSpec) -> HistoryInputs | None:
        """Describes a ranker; None if it reads no histories.

        Raises:
          ValueError: if signatures are looked up by `item_id` and the spec does not have it as a feature.
        """
        history = getattr(model, "history_interest", None)
        if history is None:
            return None
        if history.uses_item_rows and "item_id" not in [feature.name for feature in spec.features]:
            raise ValueError(
                "item signatures are looked up by `item_id`, which the spec does not name: add it to `features` and "
                "`history.features` (the model may leave it out by `exclude_features`)."
            )
        names = tuple(history.features)
        by_item = ("item_id",) if history.uses_item_rows and "item_id" not in names else ()
        table = history.uses_table
        return cls(
            short_features=names if "short" in history.windows else (),
            long_features=names + by_item if "long" in history.windows else (),
            short_length=spec.history.short_length,
            long_length=spec.history.long_length,
            version=_version(history, spec),
            simhash=history.simhash_config if table else None,
            dim=history.dim if table else None,
        )

    @classmethod
    def of_windows(cls, features: tuple[str, ...], spec: FeatureSpec) -> HistoryInputs:
        """Describes a model that takes both windows as behaviours of these features, and no table."""
        short, long = spec.history.short_length, spec.history.long_length
        return cls(
            short_features=features,
            long_features=features,
            short_length=short,
            long_length=long,
            version=_fingerprint([_windows(features, spec)]),
            simhash=None,
            dim=None,
        )

    @property
    def table_shape(self) -> tuple[int, int, int] | None:
        """Of one user's bucket sums: groups, buckets, width."""
        return (self.simhash.num_groups, self.simhash.num_buckets, self.dim) if self.simhash else None

    def windows(self, with_table: bool) -> dict[str, tuple[str, ...]]:
        """Features of each window that comes as behaviours; the long one does not where a table stands for it."""
        long = () if with_table and self.simhash else self.long_features
        return {w: names for w, names in (("short", self.short_features), ("long", long)) if names}

    def save(self, saved_model: Path) -> None:
        (saved_model / BSE_FILE).write_text(self.model_dump_json(indent=1), encoding="utf-8")

    @classmethod
    def load(cls, saved_model: str | Path) -> HistoryInputs | None:
        """Reads what an export takes; None if it takes no histories."""
        path = Path(saved_model) / BSE_FILE
        return cls.model_validate_json(path.read_text(encoding="utf-8")) if path.is_file() else None


def _version(history, spec: FeatureSpec) -> str:
    """A fingerprint of what a bucket table is made of: two rankers with one version have the same tables."""
    parts = [_windows(history.features, spec)]
    if history.uses_table:
        parts.append(history.simhash_config.model_dump_json().encode())
        parts += [weight.numpy().tobytes() for weight in history.table_weights]
    return _fingerprint(parts)


def _windows(features: tuple[str, ...], spec: FeatureSpec) -> bytes:
    return repr((features, spec.history.short_length, spec.history.long_length)).encode()


def _fingerprint(parts: list[bytes]) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:32]
