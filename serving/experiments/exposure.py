"""What was shown to whom, by which policy: an exposure, and the columns of `impressions` that it becomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from features.errors import InputError
from features.log_contract import MAX_TIMESTAMP, MIN_TIMESTAMP
from features.spec import RESERVED_COLUMNS, FeatureSpec
from serving.saved.signature_specs import arrow_type, value_type

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

    def __eq__(self, other: object) -> bool:
        same = isinstance(other, ImpressionColumns) and self.schema == other.schema
        return same and (self._of_request, self._of_item) == (other._of_request, other._of_item)

    __hash__ = None

    def table(self, exposures: Sequence[Exposure]) -> pa.Table:
        """Returns the rows of exposures, one an item.

        Raises:
          InputError: if a value does not belong into its column; the message names both.
        """
        sizes = [len(exposure.items) for exposure in exposures]
        of_row = np.repeat(np.arange(len(exposures)), sizes)
        of_exposure = {
            "request_id": [each.request_id for each in exposures],
            "timestamp": [each.timestamp for each in exposures],
            "user_id": self._ids("user_id", [each.user for each in exposures]),
            "policy": [each.policy for each in exposures],
            "release": [each.release for each in exposures],
            "variants": [[f"{layer}={name}" for layer, name in sorted(each.variants.items())] for each in exposures],
            "forced": [each.forced for each in exposures],
        }
        of_item: dict[str, list[Any]] = {
            "item_id": self._ids("item_id", [item for each in exposures for item in each.items]),
            "position": [position for size in sizes for position in range(size)],
            "propensity": [value for each in exposures for value in _or_none(each.propensities, each)],
            "conditional_propensity": [value for each in exposures for value in _or_none(each.conditionals, each)],
        }
        for feature in self._of_request:
            of_exposure[feature.column] = [each.context.get(feature.name) for each in exposures]
        for feature in self._of_item:
            given = [row or {} for each in exposures for row in _or_none(each.item_features or None, each)]
            of_item[feature.column] = [row.get(feature.name) for row in given]
        columns = {}
        for column in self.schema:
            values = of_exposure.get(column.name)
            if values is None:
                columns[column.name] = _array(column, of_item[column.name])
            else:
                columns[column.name] = _array(column, values).take(pa.array(of_row))
        return pa.table(columns, self.schema)

    def _ids(self, key: str, values: list[Any]) -> list[Any]:
        whole = pa.types.is_integer(self.schema.field(key).type)
        return values if whole else [str(value) for value in values]


def _or_none(values: Sequence[Any] | None, exposure: Exposure) -> Sequence[Any]:
    return [None] * len(exposure.items) if values is None else values


def check(exposure: Exposure) -> None:
    """Raises `InputError` if the log contract would refuse a row; the message names the value."""
    where = f"exposure of request {exposure.request_id!r}"
    k = len(exposure.items)
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


def _array(column: pa.Field, values: list[Any]) -> pa.Array:
    try:
        return pa.array(values, column.type)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"column `{column.name}` of the exposure log holds {column.type}: {error}.") from error
