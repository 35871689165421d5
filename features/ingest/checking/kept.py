"""Columns that the spec does not name and another model reads: the live one, which a new one is compared with.

A feature that is taken out of the spec is still an input of the models that were trained with it. They can be scored,
and a successor be judged against them, as long as the log has the column. Kept columns lie beside the raw examples
(docs/reference/data_formats.md), where nothing that learns can see them; a value that does not fit is missing, and no
row is refused for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from features.config import Strict
from features.ingest.checking.columns import target_of
from features.ingest.checking.plan import TablePlan, check_names
from features.ingest.config import IngestConfig
from features.log_contract import LogContractError
from features.spec import KEY_COLUMNS, Feature, FeatureSpec, HistorySpec


class KeptFeatures(Strict):
    """What other models read beside the features of a spec.

    Attributes:
      features: by name, none of them in the spec.
      history: features of past behaviours that the spec's history does not name.
    """

    features: tuple[Feature, ...] = ()
    history: tuple[str, ...] = ()

    @classmethod
    def of(cls, spec: FeatureSpec, others: Iterable[FeatureSpec]) -> KeptFeatures:
        """What the models of other specs read; where two of these differ in a feature, the first says what it is."""
        named = {feature.name for feature in spec.features}
        found: dict[str, Feature] = {}
        history: set[str] = set()
        for other in others:
            for feature in other.features:
                if feature.name not in named and feature.name not in KEY_COLUMNS:
                    found.setdefault(feature.name, feature)
            history |= set(other.history.features if other.history else ())
        history -= set(spec.history.features if spec.history else ())
        return cls(features=tuple(found[name] for name in sorted(found)), history=tuple(sorted(history)))

    def added_to(self, config: IngestConfig, spec: FeatureSpec, plans: Mapping[str, TablePlan]) -> FeatureSpec:
        """Returns the spec with what the log holds of these; what it does not hold is left out.

        Args:
          config: of the ingestion.
          spec: the features that models learn from.
          plans: of its tables.
        """
        whole = spec
        for feature in self.features:
            if _is_in_log(feature, config, plans):
                try:
                    wider = _with(whole, [*whole.features, feature], whole.history)
                    check_names(config, wider)
                except (ValueError, LogContractError):  # Its name, or its column, is by now that of something else.
                    continue
                whole = wider
        known = {feature.name: feature for feature in whole.features}
        history = [name for name in self.history if name in known and known[name].table == "items"]
        history = [name for name in history if known[name].has_ids]
        if history:
            given = whole.history or HistorySpec(features=tuple(history[:1]))
            names = tuple(dict.fromkeys([*given.features, *history]))
            whole = _with(whole, whole.features, given.model_copy(update={"features": names}))
        return whole


def _with(spec: FeatureSpec, features: Iterable[Feature], history: HistorySpec | None) -> FeatureSpec:
    """Returns the spec with other features, checked."""
    values = spec.model_dump() | {"features": [feature.model_dump() for feature in features]}
    return FeatureSpec.model_validate(values | {"history": None if history is None else history.model_dump()})


def _is_in_log(feature: Feature, config: IngestConfig, plans: Mapping[str, TablePlan]) -> bool:
    if feature.column in KEY_COLUMNS:
        return True
    if feature.table not in plans:
        return False
    plan, source = plans[feature.table], config.tables.given()[feature.table].source(feature.column)
    # A column that is read already keeps its type: to read it as another could change what models learn from.
    return plan.sources.get(source, target_of(feature)) == target_of(feature) and any(
        source in file.columns for file in plan.files.files
    )
