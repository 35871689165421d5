"""ServingValidator: serves a model for a trial before it is pushed; what cannot be served so is not pushed."""

from tfx.components.util import model_utils
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import InfraBlessing, Model, ModelBlessing
from tfx.utils import path_utils

from evaluation.results import GateResult
from evaluation.serving_check import ServingCheck, check_of
from features import storage
from pipeline.artifacts import ServingEvidence
from pipeline.run.lanes.quiet import alone
from serving.validation.config import ServingSection

_NOT_TRIED = GateResult(name="evaluation", value=None, passed=False, reason="Its evaluation refused it: not tried.")


@component
def ServingValidator(
    model: InputArtifact[Model],
    blessing: InputArtifact[ModelBlessing],
    serving_config: Parameter[str],
    infra_blessing: OutputArtifact[InfraBlessing],
    evidence: OutputArtifact[ServingEvidence],
):
    """Serves the export and holds its answers against those of the trained model (`serving.validation.trial`).

    `infra_blessing` is what the standard Pusher reads, `evidence` holds `serving_check.json`. A model that was refused
    by its evaluation is not tried. `serving_config` is a `ServingSection` as JSON.
    """
    if model_utils.is_model_blessed(blessing):
        from serving.validation.trial import check_export

        section = ServingSection.model_validate_json(serving_config)
        found = check_export(path_utils.serving_model_path(model.uri), section, alone)
    else:
        found = check_of([_NOT_TRIED])
    found.save(evidence.uri)
    mark_infra_blessing(infra_blessing, found)


def mark_infra_blessing(infra_blessing, found: ServingCheck) -> None:
    """Marks the blessing as TFX's InfraValidator does, whose names are private: the standard Pusher reads `blessed`."""
    name = "INFRA_BLESSED" if found.blessed else "INFRA_NOT_BLESSED"
    storage.write_text(storage.join(infra_blessing.uri, name), "")
    infra_blessing.set_int_custom_property("blessed", int(found.blessed))
    # It holds no model, as InfraValidator's may: what is pushed is what was trained.
    infra_blessing.set_int_custom_property("has_model", 0)
