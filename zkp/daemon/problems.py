"""Errors over HTTPS: problem details (RFC 9457), with one kind for each cause.

A kind fixes the status, the title and the type URI, so that a program can tell causes apart. The detail is one line
for a person and never repeats what the caller sent.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from aiohttp import web

CONTENT_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True)
class ProblemKind:
    """One cause of a refusal. `slug` ends its type URI; `status` is the HTTP status it always has."""

    slug: str
    status: int
    title: str

    @property
    def type_uri(self) -> str:
        """The `type` member: an identifier to compare, not an address to open."""
        return f"urn:zkp:problem:{self.slug}"

    def document(self, detail: str, **more: str) -> dict[str, str | int]:
        """The body; `more` are further members."""
        return {"type": self.type_uri, "title": self.title, "status": self.status, "detail": detail, **more}


MALFORMED = ProblemKind("malformed-request", 400, "The request is not valid HTTP")
FORBIDDEN = ProblemKind("forbidden", 403, "This certificate may not read the page")
NO_SUCH_PAGE = ProblemKind("no-such-page", 404, "No such page")
METHOD_NOT_ALLOWED = ProblemKind("method-not-allowed", 405, "The page does not take this method")
EXPECTATION_FAILED = ProblemKind("expectation-failed", 417, "The Expect header cannot be met")
INTERNAL = ProblemKind("internal", 500, "The daemon failed")


@dataclass(frozen=True, slots=True)
class HttpRefusal:
    """An error that arose before or beside a handler. `headers` belong to it."""

    kind: ProblemKind
    detail: str
    headers: Mapping[str, str] = field(default_factory=dict)


ErrorPage = Callable[[HttpRefusal], web.Response]
"""How an application answers errors that its handlers never see."""


def error_page(refusal: HttpRefusal) -> web.Response:
    """The answer to a refusal. The member `error` repeats the detail, as the pages' readers expect it."""
    return web.json_response(
        refusal.kind.document(refusal.detail, error=refusal.detail),
        status=refusal.kind.status,
        headers=refusal.headers,
        content_type=CONTENT_TYPE,
    )


def of_framework(error: web.HTTPException) -> HttpRefusal | None:
    """What aiohttp itself refuses; None for what it should never raise."""
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        return HttpRefusal(METHOD_NOT_ALLOWED, f"use {allowed}", {"Allow": allowed})
    if isinstance(error, web.HTTPNotFound):
        return HttpRefusal(NO_SUCH_PAGE, "this page does not exist")
    if isinstance(error, web.HTTPExpectationFailed):
        return HttpRefusal(EXPECTATION_FAILED, "Expect: only 100-continue is supported")
    return None
