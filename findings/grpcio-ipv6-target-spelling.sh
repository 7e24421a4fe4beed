#!/usr/bin/env bash
# grpcio: an IPv6 target is compared with the certificate as text, not as an address.
#
# Guess:     a channel to [0:0:0:0:0:0:0:1]:PORT accepts a server certificate whose subject alternative name holds the
#            address ::1, as OpenSSL and Go do: it is the same address.
# Found:     the channel never becomes ready (hostname verification fails); [::1]:PORT works.
# Versions:  grpcio 1.85.1, cryptography 50.0.2, Python 3.11.
# Seen:      [::1]: ready; [0:0:0:0:0:0:0:1]: not ready
# Matters:   an inventory that writes an address in full would deploy and then fail on every gRPC connection. The
#            settings keep every IPv6 address in its shortest form (RFC 5952).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check grpcio==1.85.1 cryptography==50.0.2
GRPC_VERBOSITY=NONE "$work/venv/bin/python" - <<'PYTHON'
import ipaddress
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "server")])
names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("::1"))])
builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
builder = builder.serial_number(1).not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=1))
builder = builder.add_extension(names, critical=False)
builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
certificate = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
private = key.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
)
server = grpc.server(ThreadPoolExecutor(1))
port = server.add_secure_port("[::1]:0", grpc.ssl_server_credentials([(private, certificate)]))
server.start()


def ready(host: str) -> bool:
    with grpc.secure_channel(f"[{host}]:{port}", grpc.ssl_channel_credentials(certificate)) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=5)
        except grpc.FutureTimeoutError:
            return False
        return True


found = {host: ready(host) for host in ("::1", "0:0:0:0:0:0:0:1")}
for host, is_ready in found.items():
    print(f"[{host}]: {'ready' if is_ready else 'not ready'}")
assert found == {"::1": True, "0:0:0:0:0:0:0:1": False}, "the behaviour has changed"
server.stop(None)
PYTHON
