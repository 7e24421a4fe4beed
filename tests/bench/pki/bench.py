"""`pki` beside openssl and easy-rsa, on the same work in one run: make an authority, issue, revoke, renew.

    python -m tests.bench.pki.bench                      # prints
    python -m tests.bench.pki.bench docs/benchmarks/pki.md

Everybody makes a P-384 authority and P-256 leaves with an address and a DNS name, each with a key of its own, and
runs as the command that an operator would type, processes and all. Nothing is asserted: a table is written.
"""

import argparse
import contextlib
import io
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from pki import cli

LEAVES = 100
ROUNDS = 5
_EASY_RSA = Path("/usr/share/easy-rsa/easyrsa")
_EXTENSIONS = """basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature
extendedKeyUsage=serverAuth,clientAuth
subjectAltName=IP:192.168.1.{number},DNS:{name}.zkp.example
"""
_CA_SECTION = """[ca]
default_ca=this
[this]
dir={place}
database=$dir/index.txt
new_certs_dir=$dir
rand_serial=yes
certificate=$dir/issuer.pem
private_key=$dir/issuer.key
default_md=sha384
default_crl_days=30
policy=any
[any]
commonName=supplied
"""
_HEADINGS = {
    "start": "only start",
    "init": "make an authority",
    "issue_one": "issue 1",
    "issue_all": f"issue {LEAVES}",
    "revoke": "revoke 1, sign the list",
    "renew_all": f"renew {LEAVES}",
}


class Contender(ABC):
    """One tool in an empty directory. Each step leaves what the next one needs."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.names = [f"worker-{number}" for number in range(LEAVES)]

    @abstractmethod
    def start(self) -> None:
        """Do nothing: what each command costs before it begins."""

    @abstractmethod
    def init(self) -> None:
        """Make a root and an issuing CA, or what comes closest."""

    @abstractmethod
    def issue_one(self) -> None:
        """One leaf with its key."""

    @abstractmethod
    def issue_all(self) -> None:
        """A hundred, as few commands as the tool allows."""

    @abstractmethod
    def revoke(self) -> None:
        """Take the one back, and sign a list that says so."""

    @abstractmethod
    def renew_all(self) -> None:
        """A hundred again, with new keys."""

    def run(self, *command: str | Path, **environment: str) -> None:
        subprocess.run(
            [str(word) for word in command],
            cwd=self.place,
            env=os.environ | environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )


_INIT = (
    *("init", "ca", "--trust-domain", "zkp.example", "--network", "192.168.1.0/24"),
    *("--no-passphrase", "--development"),
)
_ISSUE_ALL = ("issue", "--inventory", "hosts.yml", "-a", "ca", "--out", "certs")


def _inventory(names: Sequence[str]) -> str:
    hosts = (
        f"    {name}: {{ansible_host: 192.168.1.{number}, pki_hosts: {name}.zkp.example}}\n"
        for number, name in enumerate(names)
    )
    return "workers:\n  hosts:\n" + "".join(hosts)


class Ours(Contender):
    """The `pki` command."""

    def _pki(self, *words: str) -> None:
        self.run(sys.executable, "-m", "pki", *words, PYTHONPATH=str(Path(__file__).parents[3]))

    def start(self) -> None:
        self._pki("--help")

    def init(self) -> None:
        self._pki(*_INIT)
        (self.place / "hosts.yml").write_text(_inventory(self.names))

    def issue_one(self) -> None:
        self._pki("issue", "one", "--role", "worker", "--host", "192.168.1.200", "-a", "ca", "--out", "certs")

    def issue_all(self) -> None:
        self._pki(*_ISSUE_ALL)

    def revoke(self) -> None:
        self._pki("revoke", "one", "--reason", "superseded", "-a", "ca")

    def renew_all(self) -> None:
        self._pki("renew", *self.names, "-a", "ca", "--out", "certs")


class OpenSsl(Contender):
    """The openssl command, as a careful script would use it: two processes a leaf, no index of what was issued."""

    def start(self) -> None:
        self.run("openssl", "version")

    def init(self) -> None:
        for name in ("root", "issuer"):
            self.run(
                "openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384", "-out", f"{name}.key"
            )
        ca = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n"
        (self.place / "ca.ext").write_text(ca)
        self.run(
            "openssl",
            "req",
            "-x509",
            "-new",
            "-key",
            "root.key",
            "-subj",
            "/CN=root",
            "-days",
            "3650",
            "-out",
            "root.pem",
        )
        self.run("openssl", "req", "-new", "-key", "issuer.key", "-subj", "/CN=issuer", "-out", "issuer.csr")
        self._sign("issuer.csr", "issuer.pem", "ca.ext", "root")
        (self.place / "ca.cnf").write_text(_CA_SECTION.format(place=self.place))
        (self.place / "index.txt").touch()

    def _sign(self, csr: str, out: str, extensions: str, issuer: str) -> None:
        authority = ("-CA", f"{issuer}.pem", "-CAkey", f"{issuer}.key", "-CAcreateserial")
        self.run(
            "openssl", "x509", "-req", "-in", csr, *authority, "-days", "30", "-extfile", extensions, "-out", out
        )

    def _leaf(self, name: str, number: int) -> None:
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key")
        (self.place / "leaf.ext").write_text(_EXTENSIONS.format(number=number, name=name))
        self.run("openssl", "req", "-new", *key, "-subj", f"/CN={name}", "-out", "leaf.csr")
        self._sign("leaf.csr", f"{name}.pem", "leaf.ext", "issuer")

    def issue_one(self) -> None:
        self._leaf("one", 200)

    def issue_all(self) -> None:
        for number, name in enumerate(self.names):
            self._leaf(name, number)

    def revoke(self) -> None:
        self.run("openssl", "ca", "-config", "ca.cnf", "-revoke", "one.pem")
        self.run("openssl", "ca", "-config", "ca.cnf", "-gencrl", "-out", "crl.pem")

    def renew_all(self) -> None:
        self.issue_all()


class EasyRsa(Contender):
    """easy-rsa, as its documentation shows: one CA, one call a leaf."""

    def _easyrsa(self, *words: str, curve: str = "prime256v1", **environment: str) -> None:
        self.run(_EASY_RSA, "--batch", *words, EASYRSA_ALGO="ec", EASYRSA_CURVE=curve, **environment)

    def start(self) -> None:
        self._easyrsa("help")

    def init(self) -> None:
        self._easyrsa("init-pki")
        self._easyrsa("build-ca", "nopass", curve="secp384r1", EASYRSA_REQ_CN="root")

    def _leaf(self, name: str, number: int) -> None:
        names = f"--subject-alt-name=IP:192.168.1.{number},DNS:{name}.zkp.example"
        self._easyrsa("--days=30", names, "build-serverClient-full", name, "nopass")

    def issue_one(self) -> None:
        self._leaf("one", 200)

    def issue_all(self) -> None:
        for number, name in enumerate(self.names):
            self._leaf(name, number)

    def revoke(self) -> None:
        self._easyrsa("revoke", "one", "superseded")
        self._easyrsa("gen-crl")

    def renew_all(self) -> None:
        # its `renew` keeps the key; a new key is a revocation of the old one and a new certificate
        for number, name in enumerate(self.names):
            self._easyrsa("revoke", name, "superseded")
            self._leaf(name, number)


def contenders() -> dict[str, type[Contender]]:
    """Who is installed here."""
    found: dict[str, type[Contender]] = {"pki": Ours}
    if shutil.which("openssl"):
        found["openssl"] = OpenSsl
    if _EASY_RSA.exists():
        found["easy-rsa"] = EasyRsa
    return found


def measure() -> dict[str, dict[str, list[float]]]:
    """Seconds of each step, by contender, in turns so that a busy moment hits all."""
    seconds: dict[str, dict[str, list[float]]] = {name: {step: [] for step in _HEADINGS} for name in contenders()}
    for turn in range(ROUNDS):
        for name, kind in contenders().items():
            if name != "pki" and turn >= 2:
                continue  # minutes for the others; two turns show what they cost
            with tempfile.TemporaryDirectory() as place:
                contender = kind(Path(place))
                for step in _HEADINGS:
                    began = time.perf_counter()
                    getattr(contender, step)()
                    seconds[name][step].append(time.perf_counter() - began)
    return seconds


def in_process() -> float:
    """Median seconds of issuing all in a process that has started, by the same call that the command makes."""
    seconds = []
    for _ in range(ROUNDS):
        with (
            tempfile.TemporaryDirectory() as place,
            contextlib.chdir(place),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            cli.main(_INIT)
            Path("hosts.yml").write_text(_inventory([f"worker-{number}" for number in range(LEAVES)]))
            began = time.perf_counter()
            status = cli.main(_ISSUE_ALL)
            seconds.append(time.perf_counter() - began)
            assert status == 0
    return statistics.median(seconds)


def table(seconds: dict[str, dict[str, list[float]]]) -> str:
    """Medians, as Markdown."""
    lines = [f"| | {' | '.join(seconds)} |", f"|---|{'---:|' * len(seconds)}"]
    for step, heading in _HEADINGS.items():
        medians = (f"{statistics.median(steps[step]):.2f} s" for steps in seconds.values())
        lines.append(f"| {heading} | {' | '.join(medians)} |")
    return "\n".join(lines)


def machine() -> str:
    """What it ran on, in one paragraph."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor() or "unknown processor",
    )
    openssl = subprocess.run(["openssl", "version"], capture_output=True, text=True, check=False).stdout.split("(")[0]
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"{os.cpu_count()} cores of {model}, Linux {platform.release()}, Python {platform.python_version()}, "
        f"{openssl.strip()}, load average {load} at the end, {datetime.now(UTC):%Y-%m-%d}."
    )


_TEXT = """# `pki` beside openssl and easy-rsa

Written by `python -m tests.bench.pki.bench docs/benchmarks/pki.md`; wall-clock medians of whole commands, process
starts included. Every tool makes P-256 leaves with an address and a DNS name under a P-384 CA, each with its own key.

{table}

Inside a process that has started, `pki` issues the {leaves} in {in_process:.2f} s.

What the numbers leave out: `pki` writes chain, roots and revocation lists beside each key, records every certificate
in a hash-chained ledger before it leaves, and returns when all of it is on the disk (fsync); the scripts around
openssl keep no record of what they issue, and neither they nor easy-rsa wait for the disk.

Measured on {machine}
"""


def main() -> None:
    """Measure, and print or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", nargs="?", type=Path, help="write this page; print without it")
    page = parser.parse_args().page
    text = _TEXT.format(table=table(measure()), leaves=LEAVES, in_process=in_process(), machine=machine())
    if page is None:
        print(text)
    else:
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
