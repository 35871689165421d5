"""A trained ranker as a SavedModel whose signatures take raw values.

Vocabularies and numeric transforms travel inside the SavedModel, so a client sends what its logs hold. The signatures
are described in docs/reference/serving/signatures.md.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from features import storage
from features.encoding.feature_encoding import FeatureEncoding
from features.items.signatures import ItemSignatures
from serving.export.publish import publish_model
from serving.export.warmup import check_rows, ranker_logs
from serving.saved.signature_specs import HistoryInputs, check_spec
from serving.validation.trained_answers import TRAINED_LOGIT, trained_answers


def export_ranker(
    model,
    encoding: FeatureEncoding,
    directory: storage.AnyPath,
    warmup_rows: pa.Table | None = None,
    *,
    item_signatures: ItemSignatures | None = None,
    last_layer_draws: np.ndarray | None = None,
    overwrite: bool = False,
) -> str:
    """Exports a ranker with the signature `serving_default`, and the joint graph `rank_requests` beside it.

    `serving_default` scores the slates `[R, N]` of R requests; all its inputs and outputs share the first dimension. A
    ranker that looks item signatures up also has `rank_signed`: `serving_default` with an input `item_signature`
    `[R, N, G]` int32, the signatures of candidates that came after the training (-1: the catalogue's own).
    `rank_requests` scores flat candidates as training does; it is a function of the SavedModel and no signature.

    A ranker that reads histories takes them as further inputs (`serving.saved.signature_specs.HistoryInputs`). With
    SDIM, `serving_default` takes the users' bucket tables from BSE, `rank_requests` the long history itself (the
    joint graph of the training), `encode_behaviors` gives what BSE adds up, and `gap_weights` what a behaviour
    counts by its age. A ranker with `attention_maps` (AutoInt) also exports `explain`: the inputs of
    `serving_default` to `attention` `[R, N, layers, H, M, M]`, query field by key field.

    With `last_layer_draws` it also exports `draw_logits`: the inputs of `serving_default` to `logit` `[R, N]` and
    `deviation` `[R, N, M]`, what each draw of the last layer adds to the logit.

    The SavedModel appears whole or not at all.

    Args:
      model: a trained `RankingModel`; `model(batch, training=False)` returns logits `[N]`; its batch is that of
        docs/reference/data_formats.md, `history` and `item_row` only where its `history_interest` is not None. It is
        traced without AutoGraph. Features that its logits do not depend on are no inputs.
      encoding: the encoding that the model was trained with.
      directory: where the SavedModel appears, for example `serving_models/<name>/<version>`.
      warmup_rows: raw request rows that a server replays before it takes traffic; None writes no warm-up file.
      item_signatures: those that the model was built with, if any.
      last_layer_draws: [M, h + 1] deviations of the last layer's weights (`models.last_layer.laplace`), of a model with
        `last_hidden`; None: `draw_logits` is not exported.
      overwrite: replace what stands at `directory`.

    Returns:
      The directory.

    Raises:
      OccupiedError: if `directory` holds something and `overwrite` is False.
      InputError: if a feature has the name of another signature input, or `warmup_rows` do not fit the spec.
      ExportError: if TensorFlow Serving could not run the graph (`serving.export.graph_check`).
    """
    spec = encoding.spec
    history = HistoryInputs.of(model, encoding, item_signatures)
    check_spec(spec, takes_times=history is not None and history.times)
    if warmup_rows is not None:
        check_rows(warmup_rows)

    looked_up = item_signatures if history is not None and model.history_interest.uses_item_rows else None

    def build(assets: str):
        from serving.export.ranker_graphs import RankerGraphs

        item_ids = looked_up and looked_up.item_ids
        return RankerGraphs(model, encoding, assets, history, item_ids, draws=last_layer_draws).build()

    return publish_model(
        directory,
        model,
        spec,
        build,
        history=history,
        item_signatures=looked_up,
        warmup=None if warmup_rows is None else lambda inputs: ranker_logs(spec, warmup_rows, inputs, history),
        answers=None if warmup_rows is None else lambda: _answers(model, encoding, warmup_rows, looked_up),
        attention_fields=model.field_names if hasattr(model, "attention_maps") else None,
        overwrite=overwrite,
    )


def _answers(model, encoding: FeatureEncoding, rows: pa.Table, looked_up: ItemSignatures | None) -> pa.Table:
    """The trained model's own logits of the warm-up rows."""
    return trained_answers(
        encoding, rows, lambda batch: {TRAINED_LOGIT: model(batch, training=False)}, looked_up and looked_up.item_ids
    )
