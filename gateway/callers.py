"""Authentication of callers by client certificate or API key, never by address or by an unauthenticated header.

An Authorization header takes precedence over the certificate, so that a proxy may connect with its own certificate
and forward its callers' keys. Keys have 256 random bits, so the file stores
their SHA-256; a password hash is not needed.
"""

import hashlib
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
_MAX_FILE_CHARACTERS = 1_000_000  # about 10,000 keys
_CHALLENGE = 'Bearer realm="zkp"'
_INVALID_KEY_CHALLENGE = 'Bearer realm="zkp", error="invalid_token"'  # RFC 6750, section 3.1
_HINT = "connect with a client certificate, or send Authorization: Bearer KEY"


class ApiKeyError(Exception):
    """Invalid API key file or name; the message is one line with the location and the remedy."""


@dataclass(frozen=True, slots=True)
class NewKey:
    """A generated key. `key` authenticates its holder; the gateway needs only `line`, which holds its digest."""

    key: str = field(repr=False)
    line: str


def new_key(name: str) -> NewKey:
    """Generate an API key for the caller `name`.

    Raises:
        ApiKeyError: The name is invalid.
    """
    _check_name(name)
    key = KEY_PREFIX + secrets.token_urlsafe(_KEY_BYTES)
    return NewKey(key, f"{name}:{_digest(key)}")


def _check_name(name: str) -> None:
    if _NAME.fullmatch(name) is None:
        raise ApiKeyError(f"name {name!r}: must be 1–64 characters from a-z 0-9 . _ -; use one like billing-service")


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


class ApiKeys:
    """The valid keys."""

    def __init__(self, digests: Sequence[tuple[str, str]] = ()) -> None:
        """`digests`: name and SHA-256 (hex) of each key. A name may have several keys, for rotation."""
        self._names = {digest: name for name, digest in digests}

    @classmethod
    def read(cls, path: Path) -> "ApiKeys":
        """Read NAME:SHA256HEX lines; blank lines and lines that begin with # are ignored.

        Raises:
            ApiKeyError: The file cannot be read, or a line is invalid.
        """
        try:
            with path.open(encoding="utf-8") as file:
                text = file.read(_MAX_FILE_CHARACTERS + 1)
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not valid UTF-8"
            raise ApiKeyError(f"{path}: {reason}; generate its lines with `gateway new-api-key NAME`") from None
        if len(text) > _MAX_FILE_CHARACTERS:
            raise ApiKeyError(f"{path}: longer than {_MAX_FILE_CHARACTERS} characters; remove keys")
        return cls(tuple(_parse(path, text)))

    def name_of(self, key: str) -> str | None:
        """Return the name of the key's holder, None for an unknown key.

        The lookup is by SHA-256, so its timing depends on the digest alone. That reveals nothing useful about a
        key of 256 random bits: a caller cannot choose a key by its digest.
        """
        return self._names.get(_digest(key))

    def __len__(self) -> int:
        """Return the number of valid keys."""
        return len(self._names)


def _parse(path: Path, text: str) -> list[tuple[str, str]]:
    entries: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        content = line.strip()
        if not content or content.startswith("#"):
            continue
        match = _LINE.fullmatch(content)
        if match is None:  # the line is not repeated: it may contain the key itself
            hint = "write NAME:SHA256HEX as printed by `gateway new-api-key NAME`"
            raise ApiKeyError(f"{path}: line {number}: not a name and digest; {hint}")
        try:
            _check_name(match["name"])
        except ApiKeyError as error:
            raise ApiKeyError(f"{path}: line {number}: {error}") from None
        if match["digest"] in entries:
            raise ApiKeyError(f"{path}: line {number}: duplicate key; remove one of the lines")
        entries[match["digest"]] = match["name"]
    return [(name, digest) for digest, name in entries.items()]


class Callers:
    """Identifies callers; `keys` may be replaced at any time."""

    def __init__(self, keys: ApiKeys) -> None:
        self.keys = keys

    def identify(self, authorization: Sequence[str], peer: Callable[[], Identity]) -> str:
        """Return the caller's identity: a SPIFFE URI, or "api-key:NAME".

        Args:
            authorization: Values of the request's Authorization headers.
            peer: Returns the identity in the connection's certificate; raises `IdentityError` without a
                currently valid one.

        Raises:
            ApiProblem: The caller is not authenticated, or its role is not allowed.
        """
        if authorization:
            return self._by_key(authorization)
        try:
            identity = peer()
        except IdentityError as error:
            raise _unauthenticated(f"{error}; or send Authorization: Bearer KEY") from None
        if identity.role not in ROLES:
            roles = ", ".join(sorted(ROLES))
            raise ApiProblem(
                FORBIDDEN,
                f"{identity}: role {identity.role} is not allowed; use one of {roles}",
            )
        return identity.uri

    def _by_key(self, authorization: Sequence[str]) -> str:
        if len(authorization) > 1:
            raise ApiProblem(INVALID_HEADER, "Authorization: duplicate header; send it once", "Authorization")
        scheme, _, key = authorization[0].strip().partition(" ")
        if scheme.lower() != "bearer":
            raise _unauthenticated(f"Authorization: only the Bearer scheme is supported; {_HINT}")
        name = self.keys.name_of(key.strip())
        if name is None:
            raise _unauthenticated(f"Authorization: unknown API key; {_HINT}", _INVALID_KEY_CHALLENGE)
        return f"api-key:{name}"


def _unauthenticated(detail: str, challenge: str = _CHALLENGE) -> ApiProblem:
    return ApiProblem(UNAUTHENTICATED, detail, headers={"WWW-Authenticate": challenge})
