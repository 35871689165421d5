"""Paths of the REST interface: which model, version or label, and what is asked (http_rest_api_util.cc)."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from tensorflow_serving.apis import model_pb2

from serving.server.status import invalid_argument

_FLAGS = re.IGNORECASE | re.ASCII
_ANY = re.compile(r"/v1/.*", _FLAGS)
_CALL = re.compile(
    r"/v1/models/([^/:]+)(?:(?:/versions/(\d+))|(?:/labels/([^/:]+)))?:(classify|regress|predict)", _FLAGS
)
_LOOK = re.compile(r"/v1/models(?:/([^/:]+))?(?:(?:/versions/(\d+))|(?:/labels/([^/:]+)))?(?:/(metadata))?", _FLAGS)


class Route(NamedTuple):
    """What a request asks: `classify`, `regress`, `predict`, `metadata` or `status`, and of which model.

    Attributes:
      model: the model's name; empty where a status or metadata request gives none.
      version: the version's number, or None.
      label: the version's label, or None.
      action: one of the five.
    """

    model: str
    version: int | None
    label: str | None
    action: str

    def model_spec(self, signature: str | None = None) -> model_pb2.ModelSpec:
        """Returns the route's model as gRPC names it, with the name of a signature where one is given."""
        spec = model_pb2.ModelSpec(name=self.model, signature_name=signature or "")
        if self.version is not None:
            spec.version.value = self.version
        if self.label is not None:
            spec.version_label = self.label
        return spec


def is_api(path: str) -> bool:
    """Whether a path belongs to the interface at all; the server answers others with a page of its own."""
    return _ANY.fullmatch(path) is not None


def read_route(method: str, path: str) -> Route:
    """Returns what a method and a path, with its query, ask for.

    Raises:
      ServingError: INVALID_ARGUMENT with TF Serving's text.
    """
    found = {"POST": _CALL, "GET": _LOOK}[method].fullmatch(path) if method in ("POST", "GET") else None
    # The path is matched in any case of its letters, the action is not.
    if not found or (method == "POST" and found[4] not in ("classify", "regress", "predict")):
        _check_version(found)
        raise invalid_argument(f"Malformed request: {method} {path}")
    version = _check_version(found)
    label = None if found[3] is None else _decoded(found[3])
    action = found[4] if found[4] in ("classify", "regress", "predict", "metadata") else "status"
    return Route(_decoded(found[1] or ""), version, label, action)


def _check_version(found: re.Match[str] | None) -> int | None:
    if not found or found[2] is None:
        return None
    # Python refuses to convert thousands of digits; no int64 has more than 19.
    digits = found[2].lstrip("0") or "0"
    if len(digits) > 19 or int(digits) >= 2**63:
        raise invalid_argument(f"Failed to convert version: {found[2]} to numeric.")
    return int(digits)


def _decoded(part: str) -> str:
    # TF Serving keeps bytes that are not UTF-8; no model's name has them, and messages cannot carry them.
    return unquote_to_bytes(part).decode("utf-8", "replace")
