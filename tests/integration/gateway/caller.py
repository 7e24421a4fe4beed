"""A caller that checks every response against the API description."""

import json
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from gateway import openapi
from tests.unit.gateway.json_schema import complaint

DOCUMENT: dict[str, Any] = json.loads(json.dumps(openapi.document(6_000_000)))
_OF_NO_PAGE = {
    "urn:zkp:problem:no-such-page",
    "urn:zkp:problem:method-not-allowed",
    "urn:zkp:problem:expectation-failed",
}


@dataclass(frozen=True)
class Answer:
    """A response."""

    status: int
    headers: Mapping[str, str]
    body: Any

    @property
    def problem(self) -> str:
        """The kind of problem."""
        return str(self.body["type"]).removeprefix("urn:zkp:problem:")


class Caller:
    """A client of one gateway, with the certificate in `context` and the API key `key`, if any."""

    def __init__(self, port: int, context: ssl.SSLContext, key: str | None = None) -> None:
        self._origin = f"https://127.0.0.1:{port}"
        self.context = context
        self._headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._session: aiohttp.ClientSession | None = None

    async def get(self, path: str, **options: Any) -> Answer:
        """Send a GET request."""
        return await self.call("GET", path, **options)

    async def post(self, path: str, document: object, **options: Any) -> Answer:
        """Send a POST request with a JSON body."""
        return await self.call("POST", path, json=document, **options)

    async def call(self, method: str, path: str, **options: Any) -> Answer:
        """Send a request; fail if the response does not match the description."""
        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=self.context))
        headers = {**self._headers, **options.pop("headers", {})}
        async with self._session.request(method, self._origin + path, headers=headers, **options) as response:
            answer = Answer(response.status, response.headers, await response.json(content_type=None))
        _check(method, path.split("?", maxsplit=1)[0], answer)
        return answer

    async def close(self) -> None:
        """Close its connections."""
        if self._session is not None:
            await self._session.close()


def _check(method: str, path: str, answer: Answer) -> None:
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", answer.headers["X-Request-Id"])
    if answer.status >= 400 and "type" in answer.body:
        assert answer.headers["Content-Type"].startswith("application/problem+json")
        if answer.body["type"] in _OF_NO_PAGE:
            assert complaint(answer.body, DOCUMENT["components"]["schemas"]["Problem"], DOCUMENT) is None
            return
    described = _operation(method, path)["responses"].get(str(answer.status))
    assert described is not None, f"{method} {path} is not described to answer {answer.status}"
    for schema in (content["schema"] for content in described["content"].values()):
        assert complaint(answer.body, schema, DOCUMENT) is None
    for header in described.get("headers", ()):
        if answer.status != 503 or "type" in answer.body:
            assert header in answer.headers


def _operation(method: str, path: str) -> dict[str, Any]:
    """Fixed paths take precedence over those with a parameter."""
    for template in sorted(DOCUMENT["paths"], key=lambda template: "{" in template):
        pattern = re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(template))
        operation: dict[str, Any] | None = DOCUMENT["paths"][template].get(method.lower())
        if re.fullmatch(pattern, path) and operation is not None:
            return operation
    raise AssertionError(f"{method} {path} is not described")
