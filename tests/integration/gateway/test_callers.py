"""Authentication, authorization and rate limits."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest

from gateway.callers import NewKey, new_key
from gateway.config import RateSettings
from pki.ca.authority import Authority
from pki.tls.material import TlsFiles
from pki.x509.identity import Role
from tests.integration.gateway.caller import Caller
from tests.integration.gateway.conftest import Running, Serve
from zkp.client.errors import NoLeader

TASKS = "/api/v1/tasks"


@pytest.fixture
def key_file(tmp_path: Path) -> tuple[NewKey, Path]:
    """An API key and the file that admits it."""
    key, path = new_key("billing"), tmp_path / "keys"
    path.write_text(f"{key.line}\n")
    return key, path


@pytest.mark.parametrize("role", [Role.CLIENT, Role.ADMIN, Role.GATEWAY])
async def test_certificates_of_callers_admit_to_the_task_endpoints(running: Running, role: Role) -> None:
    """Clients, admins and other gateways."""
    name = "gateway-1" if role is Role.GATEWAY else f"some-{role}"
    assert (await running.caller(name, role).get(TASKS)).status == 200


@pytest.mark.parametrize("role", [Role.WORKER, Role.PROMETHEUS])
async def test_other_certificates_are_forbidden(running: Running, role: Role) -> None:
    """The response names the allowed roles."""
    answer = await running.caller(f"some-{role}", role).get(TASKS)
    assert (answer.status, answer.problem) == (403, "forbidden")
    assert f"spiffe://zkp.local/{role}/some-{role}" in answer.body["detail"]


async def test_requests_without_credentials_are_challenged(running: Running) -> None:
    """On every task endpoint."""
    caller = running.anonymous()
    for method, path in (
        ("GET", TASKS),
        ("POST", f"{TASKS}/merkle"),
        ("DELETE", f"{TASKS}/x"),
        ("GET", f"{TASKS}/x"),
    ):
        answer = await caller.call(method, path)
        assert (answer.status, answer.problem) == (401, "unauthenticated")
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="zkp"'


async def test_probes_need_no_certificate_and_show_only_the_status(running: Running) -> None:
    """The response contains only the status."""
    caller = running.anonymous()
    for page in ("/health", "/ready"):
        answer = await caller.get(page)
        assert (answer.status, answer.body) == (200, {"status": "ok"})
    running.network.error = NoLeader("nobody at 10.0.0.1:9090", {})
    await running.gateway.leader_probe.probe()
    for page in ("/health", "/ready"):
        answer = await caller.get(page)
        assert (answer.status, answer.body) == (503, {"status": "unavailable"})


async def test_the_description_is_public(running: Running) -> None:
    """Authors of clients need it first."""
    answer = await running.anonymous().get("/openapi.json")
    assert (answer.status, answer.body["openapi"]) == (200, "3.1.0")


async def test_an_api_key_is_enough(serve: Serve, key_file: tuple[NewKey, Path]) -> None:
    """A key from the file authenticates; a key that differs in one character does not."""
    key, path = key_file
    running = await serve(api_keys_file=path)
    assert (await running.anonymous(key.key).get(TASKS)).status == 200
    answer = await running.anonymous(f"{key.key[:-1]}~").get(TASKS)
    assert (answer.status, answer.problem) == (401, "unauthenticated")


async def test_keys_are_reloaded_and_an_invalid_file_changes_nothing(
    serve: Serve, key_file: tuple[NewKey, Path]
) -> None:
    """A reload admits new keys and revokes removed ones; a failed reload keeps the previous keys."""
    old, path = key_file
    running = await serve(api_keys_file=path)
    new = new_key("billing")
    path.write_text(f"{new.line}\n")
    running.gateway.reload_keys()
    assert (await running.anonymous(new.key).get(TASKS)).status == 200
    assert (await running.anonymous(old.key).get(TASKS)).status == 401
    path.write_text("nonsense\n")
    with pytest.raises(Exception, match="line 1"):
        running.gateway.reload_keys()
    assert (await running.anonymous(new.key).get(TASKS)).status == 200


async def test_a_certificate_of_another_authority_ends_in_the_handshake(running: Running, tmp_path: Path) -> None:
    """The TLS handshake fails."""
    now = datetime.now(UTC)
    other = Authority.create("zkp.local", now=now).issue("alice", Role.CLIENT, now=now).write(tmp_path)
    ours = running.identities.files("gateway-1", Role.GATEWAY).ca
    mixed = TlsFiles(certificate=other.certificate, key=other.key, ca=ours)
    context = ssl.create_default_context(cafile=mixed.ca)
    context.load_cert_chain(mixed.certificate, mixed.key)
    caller = Caller(running.port, context)
    try:
        with pytest.raises(aiohttp.ClientError):
            await caller.get("/health")
    finally:
        await caller.close()


async def test_a_certificate_that_expires_ends_on_an_open_connection(running: Running) -> None:
    """An open connection does not outlive its certificate."""
    caller = running.caller()
    assert (await caller.get(TASKS)).status == 200
    running.clock.ahead = timedelta(days=31)
    answer = await caller.get(TASKS)
    assert (answer.status, answer.problem) == (401, "unauthenticated")
    assert "expired" in answer.body["detail"]


async def test_each_caller_has_its_own_limit(serve: Serve) -> None:
    """After the burst, 429 with the time to wait; other callers are not affected."""
    running = await serve(rate=RateSettings(per_second=0.001, burst=5))
    alice = running.caller("alice")
    assert [(await alice.get(TASKS)).status for _ in range(7)] == [200] * 5 + [429] * 2
    answer = await alice.get(TASKS)
    assert answer.problem == "rate-limited"
    assert 900 <= int(answer.headers["Retry-After"]) <= 1000
    assert (await running.caller("bob").get(TASKS)).status == 200


async def test_the_limit_does_not_depend_on_headers_or_connections(serve: Serve) -> None:
    """Callers are identified by their credentials, not by port or claimed address."""
    running = await serve(rate=RateSettings(per_second=0.001, burst=1))
    assert (await running.caller("alice").get(TASKS)).status == 200
    for forged in ({"X-Forwarded-For": "10.9.8.7"}, {"X-Real-IP": "10.9.8.7"}, {"Forwarded": "for=10.9.8.7"}):
        assert (await running.caller("alice").get(TASKS, headers=forged)).status == 429


async def test_refused_bodies_count_too(serve: Serve) -> None:
    """Malformed requests count against the limit, and probes do not."""
    running = await serve(rate=RateSettings(per_second=0.001, burst=3))
    alice = running.caller("alice")
    statuses = [(await alice.post(f"{TASKS}/addition", {})).status for _ in range(5)]
    assert statuses == [400, 400, 400, 429, 429]
    assert {(await alice.get("/health")).status for _ in range(10)} == {200}


async def test_a_valid_request_id_is_kept_and_an_invalid_one_replaced(running: Running) -> None:
    """It is in the answer's header and, on refusal, in its body."""
    caller = running.caller()
    for given, kept in (("order-17.a_b", True), ("a b", False), ("x" * 65, False), ("<script>", False)):
        answer = await caller.get(f"{TASKS}/nothing", headers={"X-Request-Id": given})
        assert (answer.headers["X-Request-Id"] == given) is kept
        assert answer.body["request_id"] == answer.headers["X-Request-Id"]
