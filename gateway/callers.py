"""Who is calling: by client certificate or by API key, and never by address or a header anyone can write.

An Authorization header decides when there is one, so that a proxy may connect with its own certificate and
pass on what its callers say. Keys are random, so the file holds their SHA-256 and no password hash is
needed.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gateway.problems import FORBIDDEN, INVALID_HEADER, UNAUTHENTICATED, ApiProblem
from pki.x509.identity import Identity, IdentityError, Role

ROLES = frozenset({Role.CLIENT, Role.GATEWAY, Role.ADMIN})
KEY_PREFIX = "zkp_"

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
_LINE = re.compile(r"(?P<name>[^:\s]+):(?P<digest>[0-9a-f]{64})")
_KEY_BYTES = 32
_KEY_FILE_BYTES = 1_000_000  # some 10,000 keys; each request with a key looks at all of them
_CHALLENGE = 'Bearer realm="zkp"'
_WRONG_KEY = 'Bearer realm="zkp", error="invalid_token"'
_CURE = "connect with a client certificate, or send Authorization: Bearer KEY"


class ApiKeyError(Exception):
    """An API key file or name that cannot be used: one line with the place and the cure."""


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made. Whoever holds `key` is `name`; the gateway needs `line` alone."""

    key: str = field(repr=False)
    line: str


def new_key(name: str) -> NewKey:
    """Make an API key for `name`; raises `ApiKeyError`."""
    _check_name(name)
    key = KEY_PREFIX + secrets.token_urlsafe(_KEY_BYTES)
    return NewKey(key, f"{name}:{_digest(key)}")


def _check_name(name: str) -> None:
    if _NAME.fullmatch(name) is None:
        raise ApiKeyError(f"name {name!r}: use 1 to 64 of a-z, 0-9, '.', '_' and '-', like billing-service")


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


class ApiKeys:
    """The keys that are good now."""

    def __init__(self, digests: Sequence[tuple[str, str]] = ()) -> None:
        """`digests`: name and SHA-256 (hex) of each key. A name may have several keys, to change them."""
        self._digests = tuple(digests)

    @classmethod
    def read(cls, path: Path) -> "ApiKeys":
        """Lines of NAME:SHA256HEX; blank lines and lines that begin with # are skipped. ApiKeyError."""
        try:
            with path.open(encoding="utf-8") as file:
                text = file.read(_KEY_FILE_BYTES + 1)
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "is not UTF-8"
            raise ApiKeyError(f"{path}: {reason}; make lines for it with `gateway new-api-key NAME`") from None
        if len(text) > _KEY_FILE_BYTES:
            raise ApiKeyError(f"{path}: is longer than {_KEY_FILE_BYTES} characters; remove keys")
        return cls(tuple(_entries(path, text)))

    def name_of(self, key: str) -> str | None:
        """Whose key this is. Looks at every key whatever it finds, so that time tells nothing."""
        given = _digest(key)
        found = None
        for name, digest in self._digests:
            if hmac.compare_digest(digest, given):
                found = name
        return found

    def __len__(self) -> int:
        """How many keys are good."""
        return len(self._digests)


def _entries(path: Path, text: str) -> list[tuple[str, str]]:
    entries: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        content = line.strip()
        if not content or content.startswith("#"):
            continue
        match = _LINE.fullmatch(content)
        if match is None:  # the line itself is not shown: somebody may have put the key there
            cure = "write NAME:SHA256HEX as `gateway new-api-key NAME` prints it"
            raise ApiKeyError(f"{path}: line {number}: is not a name and a digest; {cure}")
        try:
            _check_name(match["name"])
        except ApiKeyError as error:
            raise ApiKeyError(f"{path}: line {number}: {error}") from None
        if match["digest"] in entries:
            raise ApiKeyError(f"{path}: line {number}: duplicate key; remove one line")
        entries[match["digest"]] = match["name"]
    return [(name, digest) for digest, name in entries.items()]


class Callers:
    """Tells callers apart; `keys` may be replaced at any time."""

    def __init__(self, keys: ApiKeys) -> None:
        self.keys = keys

    def identify(self, authorization: Sequence[str], peer: Callable[[], Identity]) -> str:
        """The caller's identity: a SPIFFE URI, or "api-key:NAME". Raises a `ApiProblem`.

        `authorization`: the request's headers of that name; `peer`: who the connection's certificate names,
        or `IdentityError` when there is none that is good now.
        """
        if authorization:
            return self._by_key(authorization)
        try:
            identity = peer()
        except IdentityError as error:
            raise _unauthenticated(f"{error}; or send Authorization: Bearer KEY") from None
        if identity.role not in ROLES:
            roles = ", ".join(sorted(ROLES))
            raise ApiProblem(FORBIDDEN, f"{identity} has the role {identity.role}; use one of {roles}")
        return identity.uri

    def _by_key(self, authorization: Sequence[str]) -> str:
        if len(authorization) > 1:
            raise ApiProblem(INVALID_HEADER, "Authorization: appears more than once; send it once", "Authorization")
        scheme, _, key = authorization[0].strip().partition(" ")
        if scheme.lower() != "bearer":
            raise _unauthenticated(f"only the Bearer scheme is known; {_CURE}")
        name = self.keys.name_of(key.strip())
        if name is None:
            raise _unauthenticated(f"this API key is not known; {_CURE}", 'Bearer realm="zkp", error="invalid_token"')
        return f"api-key:{name}"


def _unauthenticated(detail: str, challenge: str = _CHALLENGE) -> ApiProblem:
    return ApiProblem(UNAUTHENTICATED, detail, headers={"WWW-Authenticate": challenge})
