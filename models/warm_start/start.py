"""Gives a new model what the training before it learnt: weights, embedding rows by term, the optimiser's state."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from features.encoding.feature_encoding import FeatureEncoding
from models.training.config import OptimizerConfig
from models.warm_start.carry import CarriedFeature, WarmStartReport, carried_rows
from models.warm_start.training_state import Layout, TrainingState, layouts_of, named_variables

CARRIED, BY_ROW = "carried", "by row"


def warm_start(
    model: tf.keras.Model,
    encoding: FeatureEncoding,
    kind: str,
    state: TrainingState,
    optimizer: OptimizerConfig | None = None,
) -> WarmStartReport:
    """Gives a model the weights of a training state, as far as they mean the same.

    Rows of surviving terms are copied bit by bit, with the rows of the optimiser's slots; new terms keep their
    initialisation. Where the list of fields has changed, what stands above the embeddings starts cold: a matrix of the
    same shape may read other fields. A model of another kind starts cold as a whole.

    Args:
      model: built, with all variables of its own and of its optimiser.
      encoding: of its features.
      kind: of the model.
      state: of the training before.
      optimizer: whose state is carried too; with a `cosine` schedule its steps are counted anew, for the schedule
        begins anew. None: the optimiser starts cold.

    Returns:
      Which rows and variables came from where.
    """
    report = WarmStartReport(source=state.directory, span=state.facts.span)
    if kind != state.facts.kind:
        report.cold = f"the model was {state.facts.kind} and is {kind}"
        return report
    variables, layouts = named_variables(model), layouts_of(model)
    sources = _sources_of_rows(layouts, state, encoding, report)
    same_fields = [each.fields for each in layouts] == [each.fields for each in state.facts.layouts]
    for name, variable in variables.items():
        report.variables[name] = _carry(name, variable, sources, state, same_fields)
    _carry_optimizer(model, variables, sources, state, optimizer, report)
    return report


def _sources_of_rows(
    layouts: list[Layout], state: TrainingState, encoding: FeatureEncoding, report: WarmStartReport
) -> dict[str, np.ndarray]:
    """Returns of each variable of an embedding the old row of each of its rows, -1 for none; by path."""
    old_layouts = {layout.table or layout.numbers[0]: layout for layout in state.facts.layouts}
    sources: dict[str, np.ndarray] = {}
    for layout in layouts:
        old = old_layouts.get(layout.table or layout.numbers[0], Layout())
        parts = []
        for name in layout.first:
            rows = carried_rows(name, state.encoding, encoding)
            if not rows.cold and name not in old.first:
                rows = CarriedFeature(np.full(len(rows.source), -1), cold="the model did not read it")
            report.features[name] = rows
            parts.append(np.where(rows.source < 0, -1, rows.source + old.first.get(name, 0)))
        if layout.table:
            sources[layout.table] = np.concatenate(parts)
        for (path, names), (_, before) in ((layout.numbers, old.numbers), (layout.defaults, old.defaults)):
            if path:
                sources[path] = np.array([before.index(each) if each in before else -1 for each in names], np.int64)
    return sources


def _carry(
    name: str, variable: tf.Variable, sources: dict[str, np.ndarray], state: TrainingState, same_fields: bool
) -> str:
    """Gives a variable its old values; returns what became of it."""
    old = state.arrays.get(name)
    if old is None:
        return "there was no such variable"
    if name in sources:
        if old.shape[1:] != tuple(variable.shape[1:]):
            return f"its width was {old.shape[-1]} and is {variable.shape[-1]}"
        variable.assign(_rows(variable, old, sources[name]))
        return BY_ROW
    if not same_fields:
        return "the fields that the model reads have changed"
    if old.shape != tuple(variable.shape):
        return f"its shape was {old.shape} and is {tuple(variable.shape)}"
    variable.assign(old)
    return CARRIED


def _rows(variable: tf.Variable, old: np.ndarray, source: np.ndarray) -> np.ndarray:
    values = variable.numpy()
    values[source >= 0] = old[source[source >= 0]]
    return values


def _carry_optimizer(
    model: tf.keras.Model,
    variables: dict[str, tf.Variable],
    sources: dict[str, np.ndarray],
    state: TrainingState,
    config: OptimizerConfig | None,
    report: WarmStartReport,
) -> None:
    optimizer = model.optimizer
    if config is None:
        report.optimizer = "it was not asked for"
        return
    if type(optimizer).__name__ != state.facts.optimizer:
        report.optimizer = f"it was {state.facts.optimizer or 'none'} and is {type(optimizer).__name__}"
        return
    for slot in optimizer.get_slot_names():
        for name, variable in variables.items():
            old, moments = state.arrays.get(f"{slot}:{name}"), optimizer.get_slot(variable, slot)
            if old is None or report.variables[name] not in (CARRIED, BY_ROW):
                continue
            moments.assign(_rows(moments, old, sources[name]) if name in sources else old)
    if config.schedule != "cosine":
        optimizer.iterations.assign(state.facts.iterations)
    report.optimizer = CARRIED
