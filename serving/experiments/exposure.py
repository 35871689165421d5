"""What was shown to whom, by which policy: an exposure, and the columns of `impressions` that it becomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from features.errors import InputError
from features.log_contract import MAX_TIMESTAMP, MIN_TIMESTAMP
from features.spec import RESERVED_COLUMNS, FeatureSpec
from serving.signature_specs import arrow_type, value_type

#: Columns beside the features, of every part.
COLUMNS = {
    "request_id": pa.string(),
    "timestamp": pa.int64(),
    "user_id": pa.string(),
    "item_id": pa.string(),
    "position": pa.int64(),
    "propensity": pa.float64(),
    "conditional_propensity": pa.float64(),
    "policy": pa.string(),
    "release": pa.string(),
    "variants": pa.list_(pa.string()),
    "forced": pa.bool_(),
}


@dataclass(frozen=True)
class Exposure:
    """A list of items that a request was answered with.

    Attributes:
      request_id: of the request; no other may have it.
      timestamp: when it was answered, UTC milliseconds.
      user: who asked; None: nobody that is known.
      items: ids, the first slot first, each once.
      release: id of the release that answered.
      policy: what ordered the list (`Choice.policy`).
      propensities: marginal probability of each item in its slot, in (0, 1]; None: not known, as of a list that a
        failure made.
      conditionals: of each item given those before it; None: not known.
      variants: the variant of each layer that the user is in.
      forced: whether a variant was forced.
      context: features of `impressions` of scope `request`, by their names.
      item_features: features of `impressions` of scope `candidate`, of each item; empty: null.
    """

    request_id: str
    timestamp: int
    user: str | int | None
    items: Sequence[str | int]
    release: str
    policy: str = "greedy"
    propensities: Sequence[float] | None = None
    conditionals: Sequence[float] | None = None
    variants: Mapping[str, str] = field(default_factory=dict)
    forced: bool = False
    context: Mapping[str, Any] = field(default_factory=dict)
    item_features: Sequence[Mapping[str, Any]] = ()


class ImpressionColumns:
    """Makes columns of the log contract's table `impressions` of exposures.

    Args:
      spec: whose features of `impressions` become columns, and which says whether ids are integers; None: ids are text,
        and there is no feature.

    Attributes:
      schema: of the columns.

    Raises:
      InputError: if a feature reads a column that exposures fill themselves.
    """

    def __init__(self, spec: FeatureSpec | None = None):
        features = [] if spec is None else [f for f in spec.of_table("impressions") if f.column not in RESERVED_COLUMNS]
        taken = [feature.name for feature in features if feature.column in COLUMNS]
        if taken:
            raise InputError(
                f"feature `{taken[0]}` reads a column that the exposure log fills itself ({', '.join(COLUMNS)}): give "
                "its `column` another name."
            )
        self._of_request = [feature for feature in features if feature.scope == "request"]
        self._of_item = [feature for feature in features if feature.scope == "candidate"]
        own = {} if spec is None else {f.name: value_type(f) for f in spec.features if f.name == f.column}
        ids = {key: own[key] for key in ("user_id", "item_id") if key in own}
        read = {feature.column: arrow_type(feature) for feature in features}
        self.schema = pa.schema(list((COLUMNS | ids | read).items()))

    def of(self, exposure: Exposure) -> dict[str, pa.Array]:
        """Returns the columns of one exposure, [k] each.

        Raises:
          InputError: if the log contract would refuse a row of it; the message names the value.
        """
        k = len(exposure.items)
        _check_rows(exposure, k)
        none = [None] * k
        given: dict[str, Any] = {
            "request_id": [exposure.request_id] * k,
            "timestamp": [exposure.timestamp] * k,
            "user_id": self._ids("user_id", [exposure.user]) * k,
            "item_id": self._ids("item_id", exposure.items),
            "position": list(range(k)),
            "propensity": none if exposure.propensities is None else exposure.propensities,
            "conditional_propensity": none if exposure.conditionals is None else exposure.conditionals,
            "policy": [exposure.policy] * k,
            "release": [exposure.release] * k,
            "variants": [[f"{layer}={name}" for layer, name in sorted(exposure.variants.items())]] * k,
            "forced": [exposure.forced] * k,
        }
        given |= {feature.column: [exposure.context.get(feature.name)] * k for feature in self._of_request}
        rows = exposure.item_features or [{}] * k
        given |= {feature.column: [row.get(feature.name) for row in rows] for feature in self._of_item}
        return {column.name: _array(column.name, given[column.name], column.type) for column in self.schema}

    def _ids(self, key: str, values: Sequence[str | int | None]) -> list[str | int | None]:
        whole = pa.types.is_integer(self.schema.field(key).type)
        return [value if whole or value is None else str(value) for value in values]


def _check_rows(exposure: Exposure, k: int) -> None:
    where = f"exposure of request {exposure.request_id!r}"
    if not exposure.request_id or not MIN_TIMESTAMP <= exposure.timestamp <= MAX_TIMESTAMP:
        raise InputError(
            f"{where}: it takes an id and a time in UTC milliseconds, 1973 to 2100. Received: {exposure.timestamp}."
        )
    if len(set(exposure.items)) != k:
        raise InputError(f"{where}: an item stands in it twice: {list(exposure.items)}.")
    for name in ("propensities", "conditionals"):
        values = getattr(exposure, name)
        if values is not None and (len(values) != k or not all(0 < value <= 1 for value in values)):
            raise InputError(f"{where}: `{name}` must be {k} numbers in (0, 1]. Received: {list(values)}.")
    if exposure.item_features and len(exposure.item_features) != k:
        raise InputError(f"{where}: {len(exposure.item_features)} `item_features` for {k} items.")


def _array(name: str, values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    try:
        return pa.array(values, kind)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"column `{name}` holds {kind}. Received: {values[:3]!r} ({error}).") from error
