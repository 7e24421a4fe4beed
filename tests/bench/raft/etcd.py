"""Three etcd members of Debian's etcd-server with client and peer mutual TLS; everything else as it comes."""

import shutil
from pathlib import Path
from typing import Any

import grpc

from pki.tls.material import TlsMaterial
from tests.bench.raft.clusters import eventually, free_ports, stop_all
from tests.bench.raft.identities import CLIENT, HOST, files
from tests.bench.raft.processes import BenchError, NodeProcess

messages: Any = grpc.protos("tests/bench/raft/etcd.proto")
PUT, TRANSACTION, STATUS = "/etcdserverpb.KV/Put", "/etcdserverpb.KV/Txn", "/etcdserverpb.Maintenance/Status"
MEMBERS = ("etcd-1", "etcd-2", "etcd-3")


class EtcdCluster:
    """Data in directory/data, certificates in `identities`. election_ms None: etcd's defaults (100 and 1,000 ms)."""

    def __init__(self, directory: Path, identities: Path, election_ms: int | None = None) -> None:
        program = shutil.which("etcd")
        if program is None:
            raise BenchError("etcd is not installed: apt install etcd-server")
        self.label = "etcd" if election_ms is None else f"etcd, election {election_ms} ms"
        self._identities = identities
        ports = free_ports(2 * len(MEMBERS))
        self._client = dict(zip(MEMBERS, ports[::2], strict=True))
        self._peer = dict(zip(MEMBERS, ports[1::2], strict=True))
        directory.mkdir(parents=True)
        timing = [] if election_ms is None else _timing(election_ms)
        self.members = {
            name: NodeProcess(
                name, (program,), [*self._arguments(directory, name), *timing], directory / f"{name}.log"
            )
            for name in MEMBERS
        }

    def start(self) -> None:
        for member in self.members.values():
            member.start()
        self.leader()

    def address(self, member: str) -> str:
        return f"{HOST}:{self._client[member]}"

    def leader(self) -> str:
        return eventually("a leader of etcd", self._look)

    def wait_for(self, member: str) -> None:
        def follows() -> str | None:
            answer = self._status(member)
            return member if answer is not None and answer.leader else None

        eventually(f"{member} back", follows)

    def stop(self) -> None:
        stop_all(self.members)

    def _look(self) -> str | None:
        for name in MEMBERS:
            answer = self._status(name)
            if answer is not None and answer.leader and answer.leader == answer.header.member_id:
                return name
        return None

    def _status(self, member: str) -> Any:
        credentials = TlsMaterial.load(files(self._identities, CLIENT)).grpc_channel_credentials()
        with grpc.secure_channel(self.address(member), credentials) as channel:
            ask = channel.unary_unary(
                STATUS,
                request_serializer=messages.StatusQuestion.SerializeToString,
                response_deserializer=messages.StatusAnswer.FromString,
            )
            try:
                return ask(messages.StatusQuestion(), timeout=1.0)
            except grpc.RpcError:
                return None

    def _arguments(self, directory: Path, name: str) -> list[str]:
        tls = files(self._identities, name)
        peer, client = f"https://{HOST}:{self._peer[name]}", f"https://{HOST}:{self._client[name]}"
        own = {"cert-file": tls.certificate, "key-file": tls.key, "trusted-ca-file": tls.ca}
        options = {
            "name": name,
            "data-dir": directory / "data" / name,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "initial-cluster": ",".join(f"{other}=https://{HOST}:{port}" for other, port in self._peer.items()),
            "initial-cluster-state": "new",
            **own,
            **{f"peer-{key}": value for key, value in own.items()},
        }
        flags = ["--client-cert-auth", "--peer-client-cert-auth", "--logger=zap", "--log-level=warn"]
        return [f"--{key}={value}" for key, value in options.items()] + flags


def _timing(election_ms: int) -> list[str]:
    return [f"--election-timeout={election_ms}", f"--heartbeat-interval={election_ms // 5}"]
