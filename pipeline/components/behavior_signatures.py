"""BehaviorSignatures: hashes the item embeddings of the two-tower, once for all rankers (SDIM's BSE)."""

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import Model
from tfx.utils import path_utils

#: Properties of the artifact.
OCCUPANCY_ENTROPY, MAX_ENTROPY, CENTERED, ITEMS = "occupancy_entropy", "max_entropy", "centered", "items"


@component
def BehaviorSignatures(
    model: InputArtifact[Model],
    signatures_config: Parameter[str],
    signatures: OutputArtifact[Model],
):
    """Writes `signatures.parquet` and `simhash.json`: the signatures of the whole catalogue, in its order.

    They are a Model, so that the standard Trainer of a ranker takes them as its `base_model`. `signatures_config` is a
    `pipeline.model_sections.SignaturesConfig` as JSON. The occupancy entropy is kept as a property: a hash that puts
    most items in few buckets is mean pooling.
    """
    from features.items.signatures import sign_items
    from pipeline.model_sections import SignaturesConfig
    from serving.export.item_embeddings import embeddings_to_sign, read_item_embeddings

    config = SignaturesConfig.model_validate_json(signatures_config)
    item_ids, embeddings = read_item_embeddings(embeddings_to_sign(path_utils.serving_model_path(model.uri)))
    signed = sign_items(item_ids, embeddings, config.simhash, config.center)
    signed.save(path_utils.serving_model_dir(signatures.uri))
    signatures.set_int_custom_property(CENTERED, int(signed.center is not None))
    signatures.set_int_custom_property(ITEMS, len(signed.item_ids))
    signatures.set_float_custom_property(OCCUPANCY_ENTROPY, signed.occupancy_entropy())
    signatures.set_float_custom_property(MAX_ENTROPY, float(config.simhash.bits_per_signature))
