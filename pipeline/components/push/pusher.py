"""Pusher: TFX's own, but for how a version appears: whole, by one rename."""

import time

from tfx.components.pusher import component as standard_component
from tfx.components.pusher import executor as standard_executor
from tfx.dsl.components.base import executor_spec
from tfx.proto import pusher_pb2
from tfx.types import artifact_utils
from tfx.utils import proto_utils

from features import storage
from pipeline.release.anchor import identity, pushed_versions


class WholePushExecutor(standard_executor.Executor):
    """Publishes a blessed model under the next version; one that is the latest version already is not pushed twice."""

    def Do(self, input_dict, output_dict, exec_properties):
        pushed = artifact_utils.get_single_instance(output_dict["pushed_model"])
        if not self.CheckBlessing(input_dict):
            self._MarkNotPushed(pushed)
            return
        destination = pusher_pb2.PushDestination()
        proto_utils.json_to_proto(exec_properties["push_destination"], destination)
        model = self.GetModelPath(input_dict)
        folder = push_whole(model, destination.filesystem.base_directory)
        # The archive: what was pushed may be deleted, by hand or by a prune.
        storage.copy_tree(model, pushed.uri)
        self._MarkPushed(pushed, pushed_destination=folder, pushed_version=storage.name(folder))


class Pusher(standard_component.Pusher):
    """Pushes a blessed model to `<push_destination>/<version>/`, where a server finds it whole or not at all.

    TFX's executor copies file by file. A server takes every folder whose name is a number for a version, loads what it
    finds there and, where that fails, waits for minutes.
    """

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(WholePushExecutor)


def push_whole(model: storage.AnyPath, push_dir: storage.AnyPath) -> str:
    """Copies a SavedModel to the next version of a model's folder; returns where.

    The version is the time in seconds, or one more than the latest where the clock is behind it. A run that was killed
    after its push finds its model there and pushes it no second time.

    Args:
      model: the SavedModel.
      push_dir: the folder of the model's versions.
    """
    versions = pushed_versions(push_dir)
    if versions and identity(versions[0]) == identity(model):
        return versions[0]
    latest = int(storage.name(versions[0])) if versions else 0
    folder = storage.join(push_dir, str(max(int(time.time()), latest + 1)))
    with storage.publishing(folder, durable=True) as local:
        storage.copy_tree(model, local)
    return folder
