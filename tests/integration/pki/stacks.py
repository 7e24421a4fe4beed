"""Third-party TLS stacks as clients and verifiers, each one a small program."""

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from pki.checks.inspection import read_chain, serves
from pki.files import TlsFiles
from tests.integration.pki.authorities import Place

PROGRAMS = Path(__file__).parent / "programs"
REQUEST = b"GET / HTTP/1.1\r\n\r\n"
PATIENCE_S = 120.0  # only a hanging test waits for it


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a program ended, and all that it said."""

    code: int
    text: str


def needs(*names: str, package: str) -> pytest.MarkDecorator:
    """Skips, with the reason, where a program is not installed."""
    missing = [name for name in names if shutil.which(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(names)}: apt-get install {package}")


GNUTLS = needs("gnutls-cli", "certtool", package="gnutls-bin")
WGET = needs("wget", package="wget")
JAVA = needs("java", "javac", package="openjdk-17-jdk-headless")
NODE = needs("node", package="nodejs")
NSS = needs("tstclnt", "vfychain", "certutil", "pk12util", package="libnss3-tools")


async def run(*command: str | Path, stdin: bytes = b"", environment: Mapping[str, str] | None = None) -> Outcome:
    """A program to its end; its errors are part of what it said."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, **(environment or {})},
    )
    try:
        out, _ = await asyncio.wait_for(process.communicate(stdin), PATIENCE_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    return Outcome(process.returncode or 0, out.decode(errors="replace"))


Get = Callable[[Place, TlsFiles, str, int], Awaitable[Outcome]]
"""One HTTPS request as a member, to a host and port."""
Verify = Callable[[Place, Sequence[Path]], Awaitable[dict[Path, Outcome]]]
"""What a verifier says of each chain, for dialling, or for serving where that is all that it is for."""


async def uv(place: Place, files: TlsFiles, host: str, port: int) -> Outcome:
    """rustls: uv looks for a package that no index has. Roots in SSL_CERT_FILE replace those that are built in."""
    both = place.path / "uv.pem"
    both.write_bytes(files.certificate.read_bytes() + files.key.read_bytes())
    install = ("pip", "install", "--dry-run", "--no-cache", "--no-config", "--color", "never")
    return await run(
        *(
            sys.executable,
            "-m",
            "uv",
            *install,
            "--target",
            place.path / "target",
            "--index-url",
            f"https://{host}:{port}/",
            "nothing",
        ),
        environment={
            "SSL_CERT_FILE": str(place.ca),
            "SSL_CLIENT_CERT": str(both),
            "UV_HTTP_RETRIES": "0",
            "NO_PROXY": "*",
        },
    )


async def gnutls_cli(place: Place, files: TlsFiles, host: str, port: int) -> Outcome:
    """GnuTLS itself. It takes revocation lists of those CAs alone that it is given as roots, so here it has none."""
    own = ("--x509certfile", files.certificate, "--x509keyfile", files.key)
    dial = ("--x509cafile", place.ca, *own, "--port", str(port), host)
    return await run("gnutls-cli", *dial, stdin=REQUEST)


async def wget(place: Place, files: TlsFiles, host: str, port: int) -> Outcome:
    """GnuTLS in another program."""
    trust = (f"--ca-certificate={place.ca}", f"--crl-file={place.crl}")
    own = (f"--certificate={files.certificate}", f"--private-key={files.key}")
    return await run("wget", "--no-proxy", "--tries=1", *trust, *own, "-O", "-", f"https://{host}:{port}/")


async def java(place: Place, files: TlsFiles, host: str, port: int) -> Outcome:
    """The JDK's own PKIX validator and TLS."""
    own = (files.certificate, files.key)
    return await run("java", PROGRAMS / "Peer.java", "get", place.ca, place.crl, *own, f"https://{host}:{port}/")


async def node(place: Place, files: TlsFiles, host: str, port: int, how: str = "each") -> Outcome:
    """Node's `tls`, an OpenSSL with options of its own."""
    own = (files.certificate, files.key)
    return await run("node", PROGRAMS / "get.mjs", place.ca, place.crl, *own, f"https://{host}:{port}/", how)


async def nss_database(place: Place) -> str:
    """The roots in a new database of NSS, which takes one certificate from a file."""
    database = f"sql:{tempfile.mkdtemp(prefix='nss-', dir=place.path)}"
    await run("certutil", "-N", "-d", database, "--empty-password")
    for number, root in enumerate(place.roots()):
        path = place.path / f"root-{number}.pem"
        path.write_bytes(root)
        await run("certutil", "-A", "-d", database, "-n", f"root {number}", "-t", "CT,C,C", "-a", "-i", path)
    return database


async def tstclnt(place: Place, files: TlsFiles, host: str, port: int) -> Outcome:
    """NSS, as in Firefox."""
    database = await nss_database(place)
    bag = place.path / "own.p12"
    pair = ("-in", files.certificate, "-inkey", files.key)
    await run("openssl", "pkcs12", "-export", *pair, "-name", "own", "-passout", "pass:x", "-out", bag)
    await run("pk12util", "-d", database, "-i", bag, "-W", "x")
    request = place.path / "request"
    request.write_bytes(REQUEST)
    dial = ("-4", "-h", host, "-p", str(port), "-V", "tls1.3:tls1.3", "-n", "own", "-A", request)
    return await run("tstclnt", "-d", database, *dial)


CLIENTS = [
    pytest.param(uv, id="rustls (uv)"),
    pytest.param(gnutls_cli, id="GnuTLS (gnutls-cli)", marks=GNUTLS),
    pytest.param(wget, id="GnuTLS (wget)", marks=WGET),
    pytest.param(java, id="Java", marks=JAVA),
    pytest.param(node, id="Node", marks=NODE),
    pytest.param(tstclnt, id="NSS (tstclnt)", marks=NSS),
]


async def certtool(place: Place, chains: Sequence[Path]) -> dict[Path, Outcome]:
    """GnuTLS."""
    trust = ("--load-ca-certificate", place.ca, "--load-crl", place.crl)
    return {chain: await run("certtool", "--verify", *trust, "--infile", chain) for chain in chains}


async def java_validator(place: Place, chains: Sequence[Path]) -> dict[Path, Outcome]:
    """The JDK's PKIX validator."""
    verify = ("java", PROGRAMS / "Peer.java", "verify", place.ca, place.crl)
    return {chain: await run(*verify, chain) for chain in chains}


async def vfychain(place: Place, chains: Sequence[Path]) -> dict[Path, Outcome]:
    """NSS."""
    database = await nss_database(place)
    outcomes = {}
    for chain in chains:
        leaf, *issuers = read_chain(chain)
        paths = []
        for number, certificate in enumerate((leaf, *issuers)):
            paths.append(chain.with_name(f"{number}.der"))
            paths[-1].write_bytes(certificate.public_bytes(Encoding.DER))
        usage = "0" if serves(leaf, ExtendedKeyUsageOID.CLIENT_AUTH) else "1"
        outcomes[chain] = await run("vfychain", "-d", database, "-u", usage, *paths)
    return outcomes


VERIFIERS = [
    pytest.param(certtool, id="GnuTLS (certtool)", marks=GNUTLS),
    pytest.param(java_validator, id="Java", marks=JAVA),
    pytest.param(vfychain, id="NSS (vfychain)", marks=NSS),
]
