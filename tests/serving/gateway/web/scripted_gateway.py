"""What stands in for the gateway where a test asks how the HTTP interface answers what a real one seldom does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx

from serving.gateway.config import GatewayConfig
from serving.gateway.gateway_metrics import GatewayMetrics
from serving.gateway.schema import BehaviorsAnswer, Recommendation
from serving.gateway.web.application import make_app


class ScriptedGateway:
    """Has the methods of a `Gateway`, and does in each what it was told to.

    Args:
      act: called with each request before it is answered; what it raises is raised, a coroutine is awaited.
      missing: what `ready` says.
    """

    def __init__(self, act: Callable[[Any], Any] = lambda request: None, missing: tuple[str, ...] = (), **config: Any):
        self.config = GatewayConfig(root="nowhere", **config)
        self.metrics = GatewayMetrics()
        self.received: list[Any] = []
        self.closed = False
        self._act, self._missing = act, missing

    def ready(self) -> list[str]:
        return list(self._missing)

    async def recommend(self, request):
        await self._do(request)
        return Recommendation(request_id=request.request_id or "r", release="20261126T073000-1f2e3d4c", items=[])

    rank = recommend

    async def append_behaviors(self, request):
        await self._do(request)
        return BehaviorsAnswer(appended=len(request.events), users=1, release="20261126T073000-1f2e3d4c")

    async def close(self):
        self.closed = True

    async def _do(self, request):
        self.received.append(request)
        found = self._act(request)
        if asyncio.iscoroutine(found):
            await found


def asked(gateway: ScriptedGateway, method: str, path: str, **more: Any) -> httpx.Response:
    """Sends one request to the application of a gateway, without a port."""

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(make_app(gateway), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            return await client.request(method, path, **more)

    return asyncio.run(send())
