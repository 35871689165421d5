"""The feature spec: every feature of the pipeline, named once.

A spec is a YAML file. Each entry says where a feature comes from (`table`, `column`), what it is (`kind`, `dtype`), how
its values become numbers (`vocabulary`, `hash_buckets` or `transform`) and how wide its embedding is. Ingestion,
encoding, the models and the exported signatures all read the same object.

```yaml
name: shop
label: click
embedding_dim: 16
features:
  - {name: age_band, table: users, kind: categorical}
  - {name: hour, table: impressions, kind: categorical, dtype: int64}
  - {name: item_id, table: items, kind: categorical, vocabulary: {min_count: 2, oov_buckets: 8}}
  - {name: price, table: items, kind: numeric, transform: log_squared}
  - {name: title, table: items, kind: multi_categorical, vocabulary: {max_size: 20000}}
history: {features: [item_id], short_length: 50, long_length: 1000}
```
"""

from __future__ import annotations

import os
import zoneinfo
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator
from typing_extensions import Self

from features.config import Strict, nearest, parse_model, read_yaml
from features.storage import AnyPath

Table = Literal["impressions", "items", "users"]
Scope = Literal["request", "candidate"]

#: Columns of the log contract that a feature may not rename or shadow in the encoded tables.
KEY_COLUMNS = ("request_id", "timestamp", "user_id", "item_id")

RESERVED_COLUMNS = (*KEY_COLUMNS, "history_end", "user_index", "position", "propensity", "split", "label")
"""What examples and batches call something else than a feature or a label."""

MISSING_INT64 = -(2**63)
"""Stands for "no value" where an integer cannot be null: in tensors of an exported signature."""


class VocabularyRule(Strict):
    """How a vocabulary is cut. Ids: 0 = missing, then `oov_buckets` ids, then terms by falling frequency."""

    min_count: int = Field(1, ge=1, description="A term seen fewer times in the train split is out of vocabulary.")
    max_size: int | None = Field(None, ge=1, description="At most this many terms are kept, the most frequent first.")
    oov_buckets: int = Field(1, ge=1, description="Ids that unseen terms are hashed into.")
    ttl_days: int | None = Field(
        None,
        ge=1,
        description="Of scheduled runs: a term that the window does not hold stays for this many days after it was "
        "last in a vocabulary; None: it goes at once. The next training then finds its row.",
    )
    ttl_min_count: int = Field(1, ge=1, description="What a term must have been seen at least, in one window, to stay.")


class Feature(Strict):
    """One feature.

    Attributes:
      name: the feature's name everywhere after ingestion.
      table: the log table that holds it.
      column: the column in that table; the name by default.
      kind: `categorical` (one value), `multi_categorical` (a list) or `numeric`.
      dtype: of the raw values: `string`, `int64` or `float64`. Default: `float64` for numeric, else `string`.
      scope: `request` (one value a request: users and context) or `candidate` (one value an impression). Follows from
        the table, except that a feature of `impressions` may be either; there the default is `request`.
      vocabulary: the rule of a learnt vocabulary (categorical kinds).
      hash_buckets: instead of a vocabulary: ids 1..hash_buckets by hash, nothing to learn.
      transform: of numeric features. `log_squared`: log(x)² for x > 2, else x (AutoInt); `log_squared_floor`: its
        floor, as the reference code computes it; `standardize`; `min_max`; `bucketize` makes ids by quantiles.
      num_buckets: of `bucketize`.
      embedding_dim: width; the spec's `embedding_dim` by default.
    """

    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")
    table: Table
    column: str = ""
    kind: Literal["categorical", "multi_categorical", "numeric"] = "categorical"
    dtype: Literal["string", "int64", "float64"] = "string"
    scope: Scope = "request"
    vocabulary: VocabularyRule | None = None
    hash_buckets: int | None = Field(None, ge=1)
    transform: Literal["none", "log_squared", "log_squared_floor", "standardize", "min_max", "bucketize"] = "none"
    num_buckets: int = Field(10, ge=2)
    embedding_dim: int | None = Field(None, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _fill_defaults(cls, values: Any) -> Any:
        """Fills what depends on other fields; the defaults above only say the types."""
        if not isinstance(values, dict):
            return values
        values = dict(values)
        if values.get("column") is None:
            values["column"] = values.get("name")
        if values.get("dtype") is None:
            values["dtype"] = "float64" if values.get("kind") == "numeric" else "string"
        if values.get("scope") is None:
            values["scope"] = "candidate" if values.get("table") == "items" else "request"
        categorical = values.get("kind", "categorical") != "numeric"
        if categorical and values.get("vocabulary") is None and values.get("hash_buckets") is None:
            values["vocabulary"] = VocabularyRule()
        return values

    @model_validator(mode="after")
    def _check(self) -> Self:
        where = f"feature `{self.name}`"
        if self.kind == "numeric":
            if self.vocabulary is not None or self.hash_buckets is not None:
                raise ValueError(f"{where} is numeric: it takes `transform`, not `vocabulary` or `hash_buckets`.")
            if self.dtype == "string":
                raise ValueError(f"{where} is numeric: its `dtype` must be int64 or float64. Received: string.")
        else:
            if self.transform != "none":
                raise ValueError(f"{where} is {self.kind}: `transform` is for numeric features.")
            if self.dtype == "float64":
                raise ValueError(f"{where} is {self.kind}: its `dtype` must be string or int64. Received: float64.")
            if self.vocabulary is not None and self.hash_buckets is not None:
                raise ValueError(f"{where} has both `vocabulary` and `hash_buckets`: keep one.")
        required = {"items": "candidate", "users": "request"}.get(self.table, self.scope)
        if self.scope != required:
            raise ValueError(f"{where} comes from `{self.table}`: its `scope` must be {required}.")
        return self

    @property
    def multi_valued(self) -> bool:
        return self.kind == "multi_categorical"

    @property
    def has_ids(self) -> bool:
        """Whether the encoded feature is an id (categorical or bucketised) and not a number."""
        return self.kind != "numeric" or self.transform == "bucketize"


class HistorySpec(Strict):
    """Which item features of past behaviours the models see, and how many behaviours.

    The last `short_length` behaviours before a request are its short history, the `long_length` before those its long
    one: two disjoint windows.
    """

    features: tuple[str, ...] = ("item_id",)
    short_length: int = Field(50, ge=1)
    long_length: int = Field(1000, ge=0)


class FeatureSpec(Strict):
    """All features of a pipeline, their label and their histories.

    Attributes:
      name: of the spec.
      label: what the models learn: a column of the examples.
      timezone: of dates and times that the log writes without a zone, e.g. `Europe/Oslo`; without it they are refused.
      embedding_dim: width of an embedding, where the feature says none.
      features: the features.
      history: what models see of past behaviours; None: nothing.
    """

    name: str
    label: str = Field("click", pattern=r"^[A-Za-z][A-Za-z0-9_]*$")
    timezone: str | None = None
    embedding_dim: int = Field(16, ge=1)
    features: tuple[Feature, ...] = Field(min_length=1)
    history: HistorySpec | None = None

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, name: str | None) -> str | None:
        if name is not None:
            try:
                zoneinfo.ZoneInfo(name)
            except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
                raise ValueError("is no time zone of the IANA data base, such as `Europe/Oslo` or `UTC`") from error
        return name

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [feature.name for feature in self.features]
        self._refuse_clashes()
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"each feature is named once. Repeated: {', '.join(repeated)}.")
        for name in self.history.features if self.history else ():
            if name not in names:
                raise ValueError(f"history feature `{name}` is not a feature.{nearest(name, names)}")
            feature = self[name]
            if feature.table != "items" or not feature.has_ids:
                raise ValueError(f"history feature `{name}` must be a categorical feature of `items`.")
        return self

    def _refuse_clashes(self) -> None:
        """Examples hold keys, labels and features side by side: one under another's name would be read for it."""
        if self.label in RESERVED_COLUMNS:
            raise ValueError(f"`{self.label}` is a column of the examples: give the label another name.")
        for feature in self.features:
            name, column = feature.name, feature.column
            if name in KEY_COLUMNS and column != name:
                raise ValueError(f"`{name}` is a key of the log contract: no feature may rename it.")
            scope = "candidate" if name == "item_id" else "request"
            if name in KEY_COLUMNS and feature.scope != scope:
                raise ValueError(f"feature `{name}` is a key of the log contract: its `scope` must be {scope}.")
            if name in RESERVED_COLUMNS and name not in KEY_COLUMNS:
                raise ValueError(
                    f"feature `{name}`: the examples have a column of that name: choose another `name` and keep "
                    f"`column: {column}`."
                )
            if self.label == name or (feature.table == "impressions" and column == self.label):
                raise ValueError(
                    f"the label `{self.label}` is also the feature `{name}`: the model would read the answer."
                )

    def __getitem__(self, name: str) -> Feature:
        for feature in self.features:
            if feature.name == name:
                return feature
        raise KeyError(f"no feature `{name}`.{nearest(name, [f.name for f in self.features])}")

    def of_scope(self, scope: Scope) -> tuple[Feature, ...]:
        return tuple(feature for feature in self.features if feature.scope == scope)

    def of_table(self, table: Table) -> tuple[Feature, ...]:
        return tuple(feature for feature in self.features if feature.table == table)

    def embedding_dim_of(self, name: str) -> int:
        return self[name].embedding_dim or self.embedding_dim


def load_spec(path: AnyPath) -> FeatureSpec:
    """Reads a feature spec from YAML. Raises `SpecError`; see `parse_model`."""
    return parse_model(read_yaml(path), FeatureSpec, source=os.fspath(path))
