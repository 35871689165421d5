"""One version of a model, loaded into a TensorFlow session of its own, and how it is called.

Called as TensorFlow Serving calls it, through `Session::Run` of the C API: feeds are not cast (`Session.run` and
`make_callable` of Python would), shapes are not checked before the operations see them, errors have the runtime's own
texts, and a call can have a time limit of its own.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc
import numpy as np

from features import storage
from serving.server.status import ServingError, invalid_argument, raise_from_tensorflow

if TYPE_CHECKING:
    from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

SERVE_TAG = "serve"
#: What TF Serving takes for a signature without a name.
DEFAULT_SIGNATURE = "serving_default"
_MAX_TIMEOUT_MS = 2**31 - 1


class SessionThreads(NamedTuple):
    """Threads of the sessions; TensorFlow makes one set for the process, as large as its first session says.

    Attributes:
      intra_op: of one operation; 0 takes the number of cores.
      inter_op: operations at a time; 0 takes the number of cores.
    """

    intra_op: int = 0
    inter_op: int = 0


class SignatureTensors(NamedTuple):
    """Names of the tensors that a signature's inputs and outputs stand for, by alias.

    Read from the signature once: each look into a map of protobuf costs a microsecond.
    """

    inputs: dict[str, str]
    outputs: dict[str, str]


class LoadedModel:
    """A version that can be called, from any number of threads.

    Args:
      name: of the model.
      version: its number.
      path: its folder, which may be a URI: such a one is copied here while it is loaded.
      threads: of its session.

    Raises:
      ServingError: if it cannot be loaded, with the code and the text of TensorFlow's loader where that has one.

    Attributes:
      signatures: the signatures by name, as the export holds them.
      tensors: the tensors of each signature by its name.
    """

    def __init__(self, name: str, version: int, path: str, threads: SessionThreads):
        import tensorflow as tf

        self.name, self.version, self.path = name, version, path
        config = tf.compat.v1.ConfigProto(
            intra_op_parallelism_threads=threads.intra_op, inter_op_parallelism_threads=threads.inter_op
        )
        graph = tf.Graph()
        self._session = tf.compat.v1.Session(graph=graph, config=config)
        try:
            with storage.local_copy(path) as local:
                self.signatures: dict[str, SignatureDef] = _load(self._session, graph, local)
            graph.finalize()
            self.tensors = {name: _tensors(signature) for name, signature in self.signatures.items()}
            self._outputs: dict[str, Any] = {
                name: graph.get_tensor_by_name(name)._as_tf_output()
                for tensors in self.tensors.values()
                for name in (*tensors.inputs.values(), *tensors.outputs.values())
                if ":" in name  # the signature of the initialization names an operation, not a tensor
            }
        except BaseException:
            self._session.close()
            raise

    def run(
        self, feeds: Mapping[str, np.ndarray], fetches: Sequence[str], timeout_s: float | None = None
    ) -> list[np.ndarray]:
        """Runs the graph.

        Args:
          feeds: arrays by the names of the tensors that they stand for.
          fetches: names of the wanted tensors.
          timeout_s: after which the run is cancelled; None waits as long as it takes.

        Returns:
          The wanted tensors.

        Raises:
          ServingError: with the runtime's code and text.
        """
        import tensorflow as tf

        outputs = self._outputs
        for name in (*feeds, *fetches):
            if name not in outputs:
                raise invalid_argument(f"{name} is no tensor of the graph")
        options = _run_options(timeout_s)
        try:
            # The runtime numbers arguments by the order in which they are given; TF Serving gives them sorted.
            found = self._session._call_tf_sessionrun(
                options,
                {outputs[name]: feeds[name] for name in sorted(feeds)},
                [outputs[name] for name in fetches],
                [],
                None,
            )
        except tf.errors.OpError as error:
            raise_from_tensorflow(error)
        finally:
            if options is not None:
                _session_api().TF_DeleteBuffer(options)
        return [_as_array(each) for each in found]

    def close(self) -> None:
        """Ends the session; a call after that fails."""
        self._session.close()


def _tensors(signature: SignatureDef) -> SignatureTensors:
    inputs, outputs = (
        {alias: tensor.name for alias, tensor in named.items()} for named in (signature.inputs, signature.outputs)
    )
    return SignatureTensors(inputs, outputs)


def _session_api() -> Any:
    """The C API as the session itself calls it: options of a single call have no public way in."""
    import tensorflow as tf

    return sys.modules[tf.compat.v1.Session.__module__].tf_session


def _run_options(timeout_s: float | None) -> Any:
    """The runtime's options of one call; None where it has no time limit."""
    if timeout_s is None:
        return None
    from tensorflow.core.protobuf.config_pb2 import RunOptions

    milliseconds = min(max(int(timeout_s * 1000), 1), _MAX_TIMEOUT_MS)
    return _session_api().TF_NewBufferFromString(RunOptions(timeout_in_ms=milliseconds).SerializeToString())


def _as_array(found: Any) -> np.ndarray:
    """A fetched tensor; a single string comes as bytes, whose last zero bytes numpy would cut."""
    if isinstance(found, bytes):
        one = np.empty((), object)
        one[()] = found
        return one
    return np.asarray(found)


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Keeps TensorFlow from telling users that it would rather load into its eager runtime."""
    import tensorflow as tf

    logger = tf.get_logger()
    level = logger.level
    logger.setLevel("ERROR")
    try:
        yield
    finally:
        logger.setLevel(level)


def _load(session: Any, graph: Any, local: str) -> dict[str, SignatureDef]:
    """Loads an export into a session, and returns its signatures."""
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    if not any(storage.is_file(storage.join(local, name)) for name in ("saved_model.pb", "saved_model.pbtxt")):
        raise ServingError(
            grpc.StatusCode.NOT_FOUND,
            f"Could not find SavedModel .pb or .pbtxt at supplied export directory path: {local}. Check that the "
            "directory exists and that you have the right permissions for accessing it.",
        )
    try:
        with graph.as_default(), _without_warnings():
            meta_graph = tf.compat.v1.saved_model.load(session, [SERVE_TAG], local)
    except tf.errors.OpError as error:
        raise_from_tensorflow(error)
    except (OSError, DecodeError) as error:  # how Python's loader says that the file is no SavedModel
        path = storage.join(local, "saved_model.pb")
        raise ServingError(grpc.StatusCode.DATA_LOSS, f"Can't parse {path} as binary proto") from error
    except RuntimeError as error:  # and that it has no such tags
        message = (
            f"Could not find meta graph def matching supplied tags: {{ {SERVE_TAG} }}. To inspect available tag-sets "
            "in the SavedModel, please use the SavedModel CLI: `saved_model_cli`"
        )
        raise ServingError(grpc.StatusCode.NOT_FOUND, message) from error
    except (ValueError, KeyError, TypeError) as error:  # graphs that do not fit this TensorFlow, of many kinds
        raise ServingError(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from error
    return dict(meta_graph.signature_def)
