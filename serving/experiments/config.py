"""The configuration of experiments: layers of variants, in a YAML file that is checked before any traffic is split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, StrictInt, StrictStr, field_validator, model_validator
from typing_extensions import Self

from features import storage
from features.config import Strict, parse_model, read_yaml
from serving.experiments.exploration.config import Exploration

#: What a layer's users are divided into; shares are counted in these.
NUM_BUCKETS = 10_000

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
Share = Annotated[StrictInt, Field(ge=0, le=NUM_BUCKETS)]


class Variant(Strict):
    """What a share of the users gets.

    Attributes:
      name: unique in its layer; it stands in answers and in the exposure log.
      share: of the layer's users, in 1/10,000; 0 leaves it to testers.
      release: label or id of the release that answers; null: the one that the gateway follows.
      exploration: how its lists are drawn; null: the ranker's own order.
    """

    name: Name
    share: Share
    release: str | None = Field(default=None, min_length=1)
    exploration: Exploration | None = None


class Layer(Strict):
    """One experiment: variants that exclude one another. Layers overlap, and are independent of one another.

    Attributes:
      name: unique among the layers.
      salt: what users are hashed with; up to 64 bytes. Another salt is another, independent division of all users.
      variants: what users get; shares that do not add up to 10,000 leave the others without a variant of this layer.
      earlier: shares of the file's earlier versions by variant, the oldest first. They keep users where they are: from
        one version to the next only as many buckets change their variant as the shares differ by.
      testers: users that may force a variant; strings and integers are different users.
    """

    name: Name
    salt: str = Field(min_length=1)
    variants: tuple[Variant, ...] = Field(min_length=1)
    earlier: tuple[dict[Name, Share], ...] = ()
    testers: tuple[StrictInt | StrictStr, ...] = ()

    @property
    def shares(self) -> dict[str, int]:
        """Share of each variant by its name, in 1/10,000."""
        return {variant.name: variant.share for variant in self.variants}

    @property
    def versions(self) -> tuple[dict[str, int], ...]:
        """Shares of every version, the present one last."""
        return (*self.earlier, self.shares)

    def variant(self, name: str) -> Variant | None:
        """Returns a variant by its name; None if there is none."""
        return next((variant for variant in self.variants if variant.name == name), None)

    @field_validator("salt")
    @classmethod
    def _salt_is_a_key(cls, salt: str) -> str:
        size = len(salt.encode())
        if size > 64:
            raise ValueError(f"a salt has 64 bytes at most, this one has {size}: shorten it.")
        return salt

    @model_validator(mode="after")
    def _shares_fit(self) -> Self:
        _check_unique([variant.name for variant in self.variants], f"variants of layer `{self.name}`")
        for number, shares in enumerate(self.versions, 1):
            if sum(shares.values()) > NUM_BUCKETS:
                which = "the shares" if number == len(self.versions) else f"the shares of `earlier` version {number}"
                told = " + ".join(f"{name} {share}" for name, share in shares.items())
                raise ValueError(
                    f"layer `{self.name}`: {which} add up to {sum(shares.values()):,}, above {NUM_BUCKETS:,} ({told}): "
                    "shares count in 1/10,000."
                )
        return self


class ExperimentsConfig(Strict):
    """All experiments of a gateway.

    Attributes:
      layers: at most one of them chooses releases, and at most one (the same or another) explores: what two layers said
        about one request could not both be done.
    """

    layers: tuple[Layer, ...] = ()

    @classmethod
    def load(cls, path: storage.AnyPath) -> ExperimentsConfig:
        """Reads a YAML file. Raises `SpecError`, which names the key and the fix."""
        return parse_model(read_yaml(path), cls, str(path))

    @classmethod
    def parse(cls, values: Mapping[str, object], source: str = "experiments") -> ExperimentsConfig:
        """Checks a mapping. Raises `SpecError`, which names `source`, the key and the fix."""
        return parse_model(values, cls, source)

    def layer(self, name: str) -> Layer | None:
        """Returns a layer by its name; None if there is none."""
        return next((layer for layer in self.layers if layer.name == name), None)

    @model_validator(mode="after")
    def _layers_fit(self) -> Self:
        _check_unique([layer.name for layer in self.layers], "layers")
        _check_unique([layer.salt for layer in self.layers], "salts of layers (equal ones divide users alike)")
        for what, key in (("choose releases", "release"), ("explore", "exploration")):
            both = [layer.name for layer in self.layers if any(getattr(v, key) is not None for v in layer.variants)]
            if len(both) > 1:
                raise ValueError(
                    f"layers {', '.join(f'`{name}`' for name in both)} all {what}: of one request only one can. Leave "
                    f"`{key}` to one layer, or make one layer of them."
                )
        return self


def _check_unique(names: list[str], what: str) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"`{name}` stands twice among the {what}: give each its own.")
