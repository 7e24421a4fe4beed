"""Authentication by API key if one is sent, otherwise by certificate."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.callers import ApiKeyError, ApiKeys, Callers, NewKey, new_key
from gateway.problems import FORBIDDEN, INVALID_HEADER, UNAUTHENTICATED, ApiProblem
from pki.x509.identity import Identity, IdentityError, Role

TEXT = "zkp_" + "k" * 43  # made up, so that these tests are named alike in every run
KEY = NewKey(TEXT, f"billing:{hashlib.sha256(TEXT.encode()).hexdigest()}")
KEYS = ApiKeys([tuple(KEY.line.split(":"))])  # type: ignore[list-item]  # two parts


def holder(role: Role) -> Callable[[], Identity]:
    """Return the identity of a connection with a valid certificate."""
    return lambda: Identity("zkp.local", role, "alice")


def nobody() -> Identity:
    """A connection without a certificate."""
    raise IdentityError("no client certificate")


def refusal(authorization: list[str], peer: Callable[[], Identity]) -> ApiProblem:
    """Why a caller is refused."""
    with pytest.raises(ApiProblem) as caught:
        Callers(KEYS).identify(authorization, peer)
    return caught.value


@pytest.mark.parametrize("role", [Role.CLIENT, Role.GATEWAY, Role.ADMIN])
def test_a_certificate_of_a_caller_role_is_enough(role: Role) -> None:
    """The identity is the certificate's URI."""
    assert Callers(KEYS).identify([], holder(role)) == f"spiffe://zkp.local/{role}/alice"


@pytest.mark.parametrize("role", sorted(set(Role) - {Role.CLIENT, Role.GATEWAY, Role.ADMIN}))
def test_every_other_role_is_forbidden(role: Role) -> None:
    """A worker's certificate authenticates it, but its role is not allowed."""
    problem = refusal([], holder(role))
    assert problem.kind is FORBIDDEN
    assert role in problem.detail


def test_a_key_is_enough_without_a_certificate() -> None:
    """The identity cannot be confused with a certificate's."""
    assert Callers(KEYS).identify([f"Bearer {KEY.key}"], nobody) == "api-key:billing"
    assert Callers(KEYS).identify([f"bearer  {KEY.key}"], nobody) == "api-key:billing"


def test_a_key_takes_precedence_over_a_certificate() -> None:
    """A proxy connects with its own certificate and passes on what its callers send."""
    assert Callers(KEYS).identify([f"Bearer {KEY.key}"], holder(Role.GATEWAY)) == "api-key:billing"
    assert refusal(["Bearer wrong"], holder(Role.GATEWAY)).kind is UNAUTHENTICATED


def test_a_request_without_credentials_is_challenged() -> None:
    """The response says how to authenticate, to people and programs."""
    problem = refusal([], nobody)
    assert problem.kind is UNAUTHENTICATED
    assert problem.headers == {"WWW-Authenticate": 'Bearer realm="zkp"'}
    assert problem.detail == "no client certificate; or send Authorization: Bearer KEY"


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Bearer \udcff", "Basic YTpi", KEY.key, KEY.line])
def test_a_wrong_key_is_refused_without_being_repeated(header: str) -> None:
    """The digest from the file does not authenticate either."""
    problem = refusal([header], nobody)
    assert problem.kind is UNAUTHENTICATED
    assert "WWW-Authenticate" in problem.headers
    assert KEY.key not in problem.detail


def test_two_keys_are_rejected() -> None:
    """The choice between them would be arbitrary."""
    assert refusal([f"Bearer {KEY.key}", "Bearer x"], nobody).kind is INVALID_HEADER


def test_a_new_key_is_long_random_and_never_in_a_repr() -> None:
    """256 bits; the file needs its digest alone."""
    one, other = new_key("billing"), new_key("billing")
    assert one.key != other.key
    assert len(one.key) == len("zkp_") + 43
    assert one.line == f"billing:{hashlib.sha256(one.key.encode()).hexdigest()}"
    assert one.key not in repr(one)


@pytest.mark.parametrize("name", ["", "Billing", "a:b", "a b", "-a", "a\n", "a" * 65])
def test_a_name_that_the_file_cannot_hold_is_refused(name: str) -> None:
    """Names end up in logs and in identities."""
    with pytest.raises(ApiKeyError):
        new_key(name)


def test_the_file_may_have_comments_and_several_keys_of_one_name(tmp_path: Path) -> None:
    """A key is changed by adding the new one, then removing the old one."""
    old, new = new_key("billing"), new_key("billing")
    path = tmp_path / "keys"
    path.write_text(f"# billing team\n\n{old.line}\n  {new.line}  \n")
    keys = ApiKeys.read(path)
    assert len(keys) == 2
    assert [keys.name_of(key) for key in (old.key, new.key, "zkp_other")] == ["billing", "billing", None]


def test_each_of_many_keys_is_found_and_no_digest_is() -> None:
    """Keys are looked up by their SHA-256; the digest itself is not a key."""
    made = {f"caller-{number}": new_key(f"caller-{number}") for number in range(50)}
    pairs = [(name, key.line.partition(":")[2]) for name, key in made.items()]
    keys = ApiKeys(pairs)
    assert len(keys) == len(made)
    assert {keys.name_of(key.key): name for name, key in made.items()} == {name: name for name in made}
    assert not any(keys.name_of(digest) for _, digest in pairs)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("# fine\nbilling\n", "line 2: not a name and digest"),
        (f"{KEY.key}\n", "line 1: not a name and digest"),
        (f"billing:{KEY.key}\n", "line 1: not a name and digest"),
        (f"billing:{'A' * 64}\n", "line 1: not a name and digest"),
        (f"Billing:{'a' * 64}\n", "line 1: name 'Billing'"),
        (f"a:{'a' * 64}\nb:{'a' * 64}\n", "line 2: duplicate key"),
        ("x" * 1_000_001, "longer than 1000000 characters"),
    ],
)
def test_an_invalid_file_names_the_line_but_no_key(tmp_path: Path, text: str, words: str) -> None:
    """The line may contain the key itself."""
    path = tmp_path / "keys"
    path.write_text(text)
    with pytest.raises(ApiKeyError) as caught:
        ApiKeys.read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert words in str(caught.value)
    assert KEY.key not in str(caught.value)


def test_a_missing_or_binary_file_says_what_to_do(tmp_path: Path) -> None:
    """The message names the command that generates lines."""
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for name in ("missing", "binary"):
        with pytest.raises(ApiKeyError, match="gateway new-api-key NAME"):
            ApiKeys.read(tmp_path / name)
