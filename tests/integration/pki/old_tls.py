"""A process that imports `pki` first, as daemons do, and reports which TLS versions its gRPC speaks, as JSON."""

import asyncio
import json
import ssl
import sys
from pathlib import Path

import pki.tls.material  # isort: skip  # before gRPC, which is what this is about

from pki.x509.identity import Role
from tests.integration.pki.endpoints import (
    HONEST,
    NOW,
    grpc_listener,
    grpc_say,
    hostile_context,
    material,
    refusal,
    tls_greeting,
    tls_listener,
)


async def _probe(directory: Path) -> dict[str, str]:
    server: pki.tls.material.TlsMaterial = material(directory, "coordinator-1", Role.COORDINATOR)
    client = material(directory, "worker-1", Role.WORKER)
    findings = {}
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        place = directory / version.name
        dialling = hostile_context(ssl.PROTOCOL_TLS_CLIENT, HONEST.issue("worker-2", Role.WORKER, now=NOW), place)
        dialling.maximum_version = version
        async with grpc_listener(server.grpc_server_credentials()) as listener:
            reason = await refusal(lambda: tls_greeting(listener.port, dialling))  # noqa: B023  # awaited here
        findings[f"server {version.name}"] = "refused" if reason else "accepted"
        listening = hostile_context(
            ssl.PROTOCOL_TLS_SERVER,
            HONEST.issue("coordinator-2", Role.COORDINATOR, ["127.0.0.1"], now=NOW),
            place,
        )
        listening.maximum_version = version
        async with tls_listener(listening) as hostile:
            await refusal(lambda: grpc_say(hostile.port, client.grpc_channel_credentials()))
        findings[f"channel {version.name}"] = "accepted" if hostile.admitted else "refused"
    return findings


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_probe(Path(sys.argv[1])))))
