"""Which variant of each layer a request gets, and what it is answered with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from features.config import nearest
from features.errors import InputError
from serving.experiments.config import ExperimentsConfig, Layer, Variant
from serving.experiments.exploration.config import Exploration
from serving.experiments.user_buckets import NOBODY, BucketHash, owners


@dataclass(frozen=True)
class Assignment:
    """What experiments decide about one request.

    Attributes:
      variants: the variant of each layer by its name; layers that leave the user out are missing.
      release: label or id of the release that answers; None: the one that the gateway follows.
      exploration: how the list is drawn; None: the ranker's own order.
      forced: whether a variant was forced: such a request says nothing about the users that a variant was drawn for,
        and is left out when an experiment is read.
    """

    variants: dict[str, str]
    release: str | None
    exploration: Exploration | None
    forced: bool


class Experiments:
    """Assigns users to variants; it keeps nothing of them, and may be shared by threads.

    Args:
      config: layers, variants and shares.
    """

    def __init__(self, config: ExperimentsConfig):
        self.config = config
        self._layers = [(layer, BucketHash(layer.salt), owners(layer.versions)) for layer in config.layers]

    def assign(self, user: str | int | None, forced: Mapping[str, str] | None = None) -> Assignment:
        """Returns what a request of a user gets.

        Args:
          user: who asks; strings and integers are different users. None is in no experiment.
          forced: variants by layer that are wanted whatever the user's bucket.

        Raises:
          InputError: if `forced` names a layer or a variant that there is none of, or the user is not among the layer's
            `testers`; or `user` is no id.
        """
        wanted = {name: self._forced(user, name, variant) for name, variant in (forced or {}).items()}
        found: dict[str, Variant] = {}
        for layer, hashed, owner in self._layers:
            name = NOBODY if user is None else owner[hashed.bucket(user)]
            variant = wanted.get(layer.name) or layer.variant(name)
            if variant is not None:
                found[layer.name] = variant
        return Assignment(
            variants={layer: variant.name for layer, variant in found.items()},
            release=next((v.release for v in found.values() if v.release is not None), None),
            exploration=next((v.exploration for v in found.values() if v.exploration is not None), None),
            forced=bool(wanted),
        )

    def _forced(self, user: str | int | None, name: str, variant: str) -> Variant:
        layers = [layer.name for layer in self.config.layers]
        layer = self.config.layer(name)
        if layer is None:
            told = f"the layers are {', '.join(layers)}" if layers else "there is no experiment"
            raise InputError(f"`experiment`: no layer is called `{name}`.{nearest(name, layers)} Here {told}.")
        found = layer.variant(variant)
        if found is None:
            raise InputError(
                f"`experiment`: layer `{name}` has no variant `{variant}`.{nearest(variant, layer.shares)} It has "
                f"{', '.join(layer.shares)}."
            )
        if not _is_tester(layer, user):
            raise InputError(
                f"`experiment`: user {user!r} is not among the testers of layer `{name}`, who alone may force a "
                "variant: add the user to its `testers`."
            )
        return found


def _is_tester(layer: Layer, user: str | int | None) -> bool:
    # 1 == True and "1" != 1: the type says which user it is.
    return any(type(user) is type(tester) and user == tester for tester in layer.testers)
