"""A REST request to its answer, whatever the HTTP server (http_rest_api_handler.cc, http_server.cc): `RestHandler`."""

from __future__ import annotations

import logging
import re
import time
import zlib
from collections.abc import Mapping
from http import HTTPStatus
from typing import NamedTuple

import grpc
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    predict_pb2,
    regression_pb2,
)

from serving.server.rest import json_answers, messages, routes
from serving.server.rest.json_documents import JsonError, read_json
from serving.server.rest.json_examples import read_input
from serving.server.rest.json_tensors import read_tensors
from serving.server.rest.json_text import debug_text
from serving.server.rest.options import RestOptions
from serving.server.status import ServingError, invalid_argument

_log = logging.getLogger(__name__)

#: `ToHTTPStatusCode` of http_server.cc; every other code is 500.
_HTTP_CODES: Mapping[grpc.StatusCode, int] = {
    grpc.StatusCode.OK: 200,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}
_CORS = (
    ("Access-Control-Allow-Origin", "*"),
    ("Access-Control-Allow-Methods", "POST, GET"),
    ("Access-Control-Allow-Headers", "Content-Type"),
)
_JSON = (("Content-Type", "application/json"),)
_TEXT = (("Content-Type", "text/plain"),)
_METHODS = frozenset({"GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"})
_NO_SIGNATURE = re.compile(r'Serving signature key "(.*)" not found\.', re.DOTALL)


class Answer(NamedTuple):
    """What is sent back.

    Attributes:
      status: the HTTP status code.
      headers: (name, value) pairs, without those of the connection and without the body's length.
      body: the bytes of the body.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


class RestHandler:
    """Answers requests of the REST interface from a `ServerCore`; safe to use from many threads."""

    def __init__(self, core, options: RestOptions) -> None:
        """Takes the core (`serving.server.core.ServerCore`) and the settings."""
        self._core = core
        self._options = options

    def answer(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Answers one request.

        Args:
          method: the HTTP method, in capitals.
          target: path and query as sent.
          headers: by name in lower case.
          body: as sent, at most as long as the options allow.

        Returns:
          The answer; errors are answers too, with TF Serving's code and text.
        """
        target = re.sub(r"^https?://[^/?#]*", "", target, flags=re.IGNORECASE) or "/"
        path = re.split("[?#]", target, maxsplit=1)[0]
        if method not in _METHODS:
            return page(HTTPStatus.NOT_IMPLEMENTED)
        if path == self._options.metrics_path:
            return self._metrics(target)
        if not routes.is_api(target):
            return page(HTTPStatus.NOT_FOUND)
        return self._api(method, target, headers, body)

    def _metrics(self, target: str) -> Answer:
        if target != self._options.metrics_path:
            text = f"Unexpected path: {target}. Should be {self._options.metrics_path}"
            return Answer(400, _TEXT, text.encode("utf-8", "surrogateescape"))
        return Answer(200, _TEXT, self._core.metrics.render())

    def _api(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Answer:
        began = time.perf_counter()
        code, route, text = grpc.StatusCode.OK, routes.Route("", None, None, ""), b""
        try:
            if method == "OPTIONS":
                _check_origin(headers)
            else:
                route = routes.read_route(method, target)
                text = self._call(route, self._unpacked(headers, body))
        except BodyTooLarge as error:
            return self._finish(Answer(413, _JSON, json_answers.error_json(str(error))))
        except ServingError as error:
            code, text = error.code, json_answers.error_json(error.message)
        except Exception as error:
            _log.exception("a REST request failed: %s %s", method, target)
            code, text = grpc.StatusCode.INTERNAL, json_answers.error_json(f"{type(error).__name__}: {error}")
        api = "" if route.action in ("status", "metadata") else route.action
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            self._core.metrics.observe_refusal("REST")
        self._core.metrics.observe_request(route.model, api, "REST", code, time.perf_counter() - began)
        content = () if method == "OPTIONS" else _JSON
        return self._finish(Answer(_HTTP_CODES.get(code, 500), content, b"" if method == "OPTIONS" else text))

    def _finish(self, answer: Answer) -> Answer:
        return answer._replace(headers=answer.headers + _CORS) if self._options.enable_cors else answer

    def _unpacked(self, headers: Mapping[str, str], body: bytes) -> bytes:
        """Returns the body, inflated if it is packed; as in TF Serving, one that cannot be inflated is empty."""
        if "gzip" not in headers.get("content-encoding", "") or not body:
            return body
        inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        try:
            text = inflater.decompress(body, self._options.max_body_bytes + 1)
        except zlib.error:
            return b""
        if len(text) > self._options.max_body_bytes:
            raise BodyTooLarge(self._options.max_body_bytes)
        return text if inflater.eof else b""

    def _call(self, route: routes.Route, body: bytes) -> bytes:
        if route.action in ("status", "metadata"):
            return self._look(route)
        return self._core.calls.run(self._infer, route, body, timeout_s=self._options.timeout_s)

    def _infer(self, route: routes.Route, body: bytes) -> bytes:
        document = _document(body)
        signature = document.get("signature_name", "")
        if not isinstance(signature, str):
            raise invalid_argument(
                f"JSON Value: {debug_text(document)} not formatted correctly. "
                "'signature_name' key must be a string value."
            )
        spec = route.model_spec(signature.encode("utf-8", "replace").decode())
        if route.action == "predict":
            return self._predict(spec, document)
        if route.action == "classify":
            classify = classification_pb2.ClassificationRequest(model_spec=spec, input=read_input(document))
            return json_answers.classifications_json(self._core.classify(classify, self._options.timeout_s).result)
        regress = regression_pb2.RegressionRequest(model_spec=spec, input=read_input(document))
        return json_answers.regressions_json(self._core.regress(regress, self._options.timeout_s).result)

    def _predict(self, spec, document: Mapping) -> bytes:
        types = self._input_types(spec)
        tensors, rows = read_tensors(document, types)
        request = predict_pb2.PredictRequest(model_spec=spec, inputs=tensors)
        response = self._core.predict(request, self._options.timeout_s)
        return json_answers.predictions_json(response.outputs, rows)

    def _input_types(self, spec) -> dict[str, int]:
        try:
            signature = self._core.signature_def(spec)
        except ServingError as error:
            found = _NO_SIGNATURE.fullmatch(error.message)
            if not found:
                raise
            raise invalid_argument(f'Serving signature name: "{found[1]}" not found in signature def') from None
        if not signature.inputs:
            raise invalid_argument(f"Failed to get input map for signature: {spec.signature_name or 'DEFAULT'}")
        return {name: signature.inputs[name].dtype for name in sorted(signature.inputs)}

    def _look(self, route: routes.Route) -> bytes:
        if not route.model:
            raise invalid_argument("Missing model name in request.")
        if route.action == "status":
            status = get_model_status_pb2.GetModelStatusRequest(model_spec=route.model_spec())
            return messages.status_json(self._core.model_status(status))
        request = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=route.model_spec(), metadata_field=["signature_def"]
        )
        return messages.metadata_json(self._core.model_metadata(request))


class BodyTooLarge(Exception):
    """A body, as sent or inflated, above the bound that `RestOptions.max_body_bytes` sets."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"The body of the request is larger than {limit} bytes.")


def page(status: HTTPStatus) -> Answer:
    """Returns libevent's page for an error that the interface has no words for."""
    text = (
        f"<HTML><HEAD>\n<TITLE>{status.value} {status.phrase}</TITLE>\n</HEAD><BODY>\n<H1>{status.phrase}</H1>\n"
        "</BODY></HTML>\n"
    )
    return Answer(status.value, (("Content-Type", "text/html"), ("Connection", "close")), text.encode())


def _document(body: bytes) -> dict:
    try:
        document = read_json(body)
    except JsonError as error:
        raise invalid_argument(str(error)) from None
    if not isinstance(document, dict):
        raise invalid_argument(f"JSON Value: {debug_text(document)} Is not object")
    return document


def _check_origin(headers: Mapping[str, str]) -> None:
    if not re.search("https?://", headers.get("origin", "")):
        raise ServingError(grpc.StatusCode.FAILED_PRECONDITION, "Origin header is missing in CORS preflight")
