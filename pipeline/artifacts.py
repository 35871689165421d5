"""Artifact types that TFX has no standard type for. Everything else is passed in TFX's standard types."""

from tfx.types.artifact import Artifact


class BehaviorLog(Artifact):
    """Behaviours per user, sharded by a hash of the user id: `behaviors-SSSSS-of-NNNNN.parquet`."""

    TYPE_NAME = "BehaviorLog"


class DeadLetters(Artifact):
    """Rows of the logs that could not be used, each with its reason: `dead_letters-SSSSS-of-NNNNN.parquet`."""

    TYPE_NAME = "DeadLetters"


class BehaviorTableSet(Artifact):
    """What BehaviorTables built: `behavior_tables.json`. The tables themselves are in the BSE store."""

    TYPE_NAME = "BehaviorTableSet"


class ProfileSet(Artifact):
    """What UserProfiles built: `profiles.json`. The profiles themselves are in the profile store."""

    TYPE_NAME = "ProfileSet"


class ReleaseNote(Artifact):
    """Which release ReleasePusher made: `release.json`. The release itself lies in the serving root."""

    TYPE_NAME = "ReleaseNote"


class AnchorNote(Artifact):
    """What ModelAnchor did: `model_anchor.json`. The anchor itself lies beside the pushed versions."""

    TYPE_NAME = "AnchorNote"


class ServingEvidence(Artifact):
    """What ServingValidator found: `serving_check.json`."""

    TYPE_NAME = "ServingEvidence"
