"""The coordinators' gRPC server with handlers that do nothing: the part of a call's cost that is not replication.

One process, no peers, no disk; TLS, event loop and size of an answer are those of the coordinators.
`python -m tests.bench.raft.empty HOST:PORT IDENTITY` runs it.
"""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import uvloop

from coordinator.rpc.serving.server import GrpcServer
from pki.tls.material import TlsFiles, TlsMaterial
from tests.bench.raft import coordinators, load, payload
from tests.bench.raft.clusters import eventually, free_ports, stop_all
from tests.bench.raft.identities import HOST
from tests.bench.raft.processes import NodeProcess
from zkp.protocol.v1 import coordinator_pb2 as pb

MEMBER = "empty"
_COMMAND = (sys.executable, "-m", "tests.bench.raft.empty")
_ANSWER_BYTES = 300


class EmptyServer:
    """In the place of a cluster. The log is in `directory`."""

    label = "empty"

    def __init__(self, directory: Path, identities: Path) -> None:
        directory.mkdir(parents=True)
        self._port = free_ports(1)[0]
        arguments = [self.address(MEMBER), str(identities / coordinators.MEMBERS[0])]
        self.members = {MEMBER: NodeProcess(MEMBER, _COMMAND, arguments, directory / "empty.log")}

    def start(self) -> None:
        self.members[MEMBER].start()
        self.wait_for(MEMBER)

    def leader(self) -> str:
        return MEMBER

    def wait_for(self, member: str) -> None:
        eventually("the empty server", lambda: member if self._listens() else None)

    def address(self, member: str) -> str:
        return f"{HOST}:{self._port}"

    def stop(self) -> None:
        stop_all(self.members)

    def _listens(self) -> bool:
        with socket.socket() as connection:
            return connection.connect_ex((HOST, self._port)) == 0


class _Nothing(grpc.GenericRpcHandler):
    """The methods that the load generator calls: each says at once that all is accepted, whatever it was sent."""

    def __init__(self) -> None:
        accepted = pb.SubmitResult(accepted=pb.SubmitTaskResponse(task=pb.Task(proof=bytes(_ANSWER_BYTES))))
        one = accepted.SerializeToString()
        many = pb.SubmitTasksResponse(results=[accepted] * payload.BATCH).SerializeToString()

        def unary(answer: bytes) -> "grpc.RpcMethodHandler[bytes, bytes]":
            async def call(_request: bytes, _context: object) -> bytes:
                return answer

            return grpc.unary_unary_rpc_method_handler(call)

        async def stream(requests: AsyncIterator[bytes], context: Any) -> None:
            async for _ in requests:
                await context.write(one)

        self._methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            load.SUBMIT: unary(one),
            load.SUBMIT_MANY: unary(many),
            load.STREAM: grpc.stream_stream_rpc_method_handler(stream),
        }

    def service(self, details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[bytes, bytes] | None":
        return self._methods.get(details.method)


async def _serve(address: str, identity: Path) -> None:
    host, _, port = address.rpartition(":")
    await GrpcServer(_Nothing()).start(host, int(port), TlsMaterial.load(TlsFiles.in_directory(identity)))
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve(sys.argv[1], Path(sys.argv[2])))
