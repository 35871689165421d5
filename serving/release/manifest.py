"""A release: one manifest that names everything that is served together, and how it lies in a serving root.

    ROOT/<model>/<version>/            a SavedModel, as TensorFlow Serving reads it
    ROOT/<model>_bse/<version>         the bucket tables of a ranker (serving/user_stores/bse/)
    ROOT/catalogues/<digest>/          the raw items that a cascade lists; most clicked items
    ROOT/releases/<id>.json            a `Release`
    ROOT/labels.json                   label → id of a release

A manifest appears by one rename after everything that it names is in place, and is never changed. `labels.json` is
replaced by one rename: who reads it has the old release or the new one, whole.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from datetime import datetime, timedelta, timezone
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from evaluation.cascade.config import CascadeConfig
from features.config import Strict

#: Of the manifest's format; a reader refuses others.
FORMAT = 1
#: Names of models, versions, releases: one part of a path, and no way out of it.
NAME_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$"
LABEL_PATTERN = r"^[a-z][a-z0-9_-]*$"
#: Stands for the newest release wherever a label may stand; hence no label of its own.
LATEST = "latest"

_ID_TIME = "%Y%m%dT%H%M%S"


def _inside(path: str) -> str:
    # Also no scheme, no drive, no backslash: nothing that some file system reads otherwise.
    if re.search(r"[\\:\x00]", path) or any(part in ("", ".", "..") for part in path.split("/")):
        raise ValueError("a path of a release is relative and stays where it starts, as `shop_autoint/17`.")
    return path


def _instant(text: str) -> str:
    if datetime.fromisoformat(text.replace("Z", "+00:00")).tzinfo is None:
        raise ValueError("a time of a release says its offset from UTC, as `2026-11-26T07:30:00+00:00`.")
    return text


Name = Annotated[str, Field(pattern=NAME_PATTERN)]
InsidePath = Annotated[str, AfterValidator(_inside)]
Instant = Annotated[str, AfterValidator(_instant)]


class ReleasedFile(Strict):
    """A file of something released.

    Attributes:
      path: relative to the folder that it lies in.
      bytes: its size.
      sha256: of its content, in hexadecimal digits.
    """

    path: InsidePath
    bytes: int = Field(ge=0)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class ReleasedModel(Strict):
    """One version of a model.

    Attributes:
      name: its folder in the serving root, and its name in TensorFlow Serving: `shop_autoint`.
      stage: `retrieval`, `coarse` or `fine`.
      version: the number that its folder is named by.
      path: of the SavedModel, relative to the serving root: `shop_autoint/17`.
      kind: of the model, as the configuration names it; '' where nobody said.
      files: what lies in the folder; a release whose files are others by now is not served. None are checked where
        none are named.
      kept: whether it was taken over from the release before, since the run that made this one did not allow its own.
    """

    name: Name
    stage: str
    version: int = Field(ge=0)
    path: InsidePath
    kind: str = ""
    files: tuple[ReleasedFile, ...] = ()
    kept: bool = False

    @model_validator(mode="after")
    def _lies_under_its_name(self) -> ReleasedModel:
        folder, _, version = self.path.partition("/")
        if folder != self.name or not version.isdecimal() or int(version) != self.version:
            raise ValueError(
                f"`path` must be `<name>/<version>`. Received: {self.path!r} of {self.name!r}, version {self.version}."
            )
        return self


class ReleasedTables(Strict):
    """The bucket tables that a ranker reads long histories from.

    They are checked by opening the store: behaviours may be appended to it, and it may be built again under the same
    version, so its files have no fixed digest.

    Attributes:
      model: the ranker, one of the release's models.
      version: under which the store holds them: that of the ranker's embeddings.
      path: of the store, relative to the serving root: `shop_autoint_bse`.
    """

    model: Name
    version: Name
    path: InsidePath


class Release(Strict):
    """What is served together.

    Attributes:
      id: sorts by time and names its file: `20261126T073000-1f2e3d4c`.
      created: when it was made, ISO 8601 in UTC. Of two releases the one that was made later is the newer.
      models: the versions, in the order of their training.
      tables: of the rankers that read long histories from a store.
      catalogue: Parquet file of the raw items, relative to the serving root; None: there is none.
      profiles: users' profiles, as store and version in it, relative to the serving root: `shop_profiles/1f2e…`; None:
        requests bring what they say of their users.
      cascade: how many items pass each stage; None: the release is no cascade.
      cascade_models: the models of the cascade by stage; empty without one.
      spec, config, data: fingerprints of the features, of the whole configuration, and of the logs.
      metrics: {model: {metric: value}}, by which the models were allowed.
      allowed_by: who or what let it be released.
      pipeline: the one that made it; '' where it was put together by hand.
      popular_items: Parquet file of the items that were clicked most in training, relative to the serving root, for who
        has no others to list; None: there is none.
      catalogue_sha256: of the catalogue's file; '' where it is not checked.
      format: of the manifest.
    """

    id: Name
    created: Instant
    models: tuple[ReleasedModel, ...]
    tables: tuple[ReleasedTables, ...] = ()
    catalogue: InsidePath | None = None
    profiles: InsidePath | None = None
    cascade: CascadeConfig | None = None
    cascade_models: dict[str, str] = {}
    spec: str = ""
    config: str = ""
    data: str = ""
    metrics: dict[str, dict[str, float]] = {}
    allowed_by: str = ""
    pipeline: str = ""
    popular_items: InsidePath | None = None
    catalogue_sha256: str = ""
    format: Literal[1] = FORMAT

    @model_validator(mode="after")
    def _names_its_own(self) -> Release:
        names = [model.name for model in self.models]
        if not names:
            raise ValueError("a release names one model at least.")
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"a release names one version of a model. Received `{twice[0]}` twice.")
        asked = {"tables": [tables.model for tables in self.tables], "cascade_models": [*self.cascade_models.values()]}
        for key, models in asked.items():
            for model in models:
                if model not in names:
                    raise ValueError(f"`{key}` names `{model}`, which is none of the release's models.")
        return self

    def model(self, name: str) -> ReleasedModel | None:
        """Returns the version of a model that the release names; None: it names none."""
        return next((model for model in self.models if model.name == name), None)

    def tables_of(self, name: str) -> ReleasedTables | None:
        """Returns the bucket tables of a ranker; None: it reads none."""
        return next((tables for tables in self.tables if tables.model == name), None)


def new_release_id(after: datetime | None = None) -> tuple[str, str]:
    """Returns the id of a new release and when it was created, ISO 8601 in UTC.

    Args:
      after: when the newest release so far was created: the new one is later, whatever the clock says.
    """
    now = datetime.now(timezone.utc)
    if after is not None:
        now = max(now, after.astimezone(timezone.utc) + timedelta(microseconds=1))
    # Microseconds and chance: what was made in one second sorts too.
    tail = f"{now.microsecond:05x}{uuid.uuid4().hex[:3]}"
    return f"{now.strftime(_ID_TIME)}-{tail}", now.isoformat(timespec="microseconds")


def created_at(release: Release) -> datetime:
    """Returns when a release was created."""
    return datetime.fromisoformat(release.created.replace("Z", "+00:00"))


def fingerprint(values: object) -> str:
    """Returns a digest of values of JSON, whatever the order of their keys."""
    text = json.dumps(values, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
