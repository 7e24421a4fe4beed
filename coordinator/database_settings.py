"""Where the record is kept, and the one rule about getting there: over a network, TLS that checks the server.

A connection is described either by a libpq URL or by single keys; both end as libpq's own keywords, which is
all that `coordinator.store` sees.
"""

import re
from collections.abc import Iterator
from typing import Annotated
from urllib.parse import unquote

from pydantic import Field, SecretStr

from settings import Address, AnchoredPath, Count, Duration, Fault, Section

_URL = re.compile(
    r"postgres(?:ql)?://(?:(?P<user>[^:@/?]*)(?::(?P<password>[^@/?]*))?@)?(?P<hosts>[^/?]*)"
    r"(?:/(?P<name>[^?/]*))?(?:\?(?P<query>.*))?",
    re.DOTALL,
)
_HOST_AND_PORT = re.compile(r"(?P<host>\[[^\]]*\]|[^:]*)(?::(?P<port>[0-9]*))?")


class DatabaseSettings(Section):
    """PostgreSQL: either `url`, or `host` and the keys beside it. Where both are given, `url` wins."""

    url: SecretStr | None = Field(
        default=None,
        description=(
            "libpq URL; takes the place of host, port, name and user (and of password and ssl_* as far as it "
            "carries them); the variable ZKP_DATABASE_URL sets it too"
        ),
        examples=["postgresql://zkp@db.example:5432/zkp?sslmode=verify-full"],
    )
    host: str | None = Field(
        default=None,
        description="host name or address of the server, or the directory of its Unix socket",
        examples=["192.168.1.20"],
    )
    port: Annotated[Count, Field(ge=1, le=65535)] = Field(
        default=5432, description="TCP port of the server", examples=["5432"]
    )
    name: str = Field(default="zkp", description="name of the database")
    user: str = Field(default="zkp", description="database role to connect as")
    password: SecretStr | None = Field(
        default=None,
        description="the role's password; write ${DB_PASSWORD} to take it from the environment",
        examples=["${DB_PASSWORD}"],
    )
    ssl_mode: str = Field(
        default="verify-full",
        description="verify-full whenever the server is reached over a network; unused on a Unix socket",
        examples=["verify-full"],
    )
    ssl_root_cert: AnchoredPath | None = Field(
        default=None, description="roots to check the server with, PEM", examples=["/etc/zkp/tls/ca.pem"]
    )
    ssl_cert: AnchoredPath | None = Field(
        default=None,
        description="client certificate for the server",
        examples=["/etc/zkp/tls/certificate.pem"],
    )
    ssl_key: AnchoredPath | None = Field(
        default=None, description="the client certificate's key", examples=["/etc/zkp/tls/key.pem"]
    )
    max_open_conns: Annotated[Count, Field(ge=2, le=1000)] = Field(
        default=8, description="connections to keep at most, one of them for writing", examples=["8"]
    )
    connect_timeout: Duration = Field(default=5.0, description="how long to wait for a connection", examples=["5s"])

    def parameters(self) -> dict[str, str]:
        """The connection in libpq's keywords (host, port, dbname, user, password, sslmode, …). Holds secrets.

        Raises ValueError when `url` is malformed; settings that were validated never do.
        """
        given = {"host": self.host or "", "port": str(self.port), "dbname": self.name, "user": self.user}
        if self.url is not None:
            given = _parse_url(self.url.get_secret_value())
        if self.password is not None:
            given.setdefault("password", self.password.get_secret_value())
        if _over_network(given):
            given.setdefault("sslmode", self.ssl_mode)
            for keyword, path in self._files().items():
                given.setdefault(keyword, str(path))
            given.setdefault("ssl_min_protocol_version", "TLSv1.3")
            given.setdefault("gssencmode", "disable")  # would be tried before TLS, and checks no certificate
        given.setdefault("connect_timeout", str(max(2, round(self.connect_timeout))))
        return given

    def rules(self) -> Iterator[Fault]:
        if (self.ssl_cert is None) != (self.ssl_key is None):
            missing = "ssl_cert" if self.ssl_cert is None else "ssl_key"
            yield Fault(missing, "is missing", "give ssl_cert and ssl_key together, or neither")
        if self.url is None and not self.host:
            cure = "name the server or its socket directory, or set database.url or ZKP_DATABASE_URL"
            yield Fault("host", "is missing", cure)
            return
        try:
            parameters = self.parameters()
            _check_hosts(parameters)
        except ValueError as error:
            if self.url is None:
                yield Fault("host", str(error), "write a host name or address")
            else:
                yield Fault("url", str(error), "write postgresql://USER@HOST:PORT/NAME")
            return
        if _over_network(parameters):
            yield from self._network_rules(parameters)

    def _network_rules(self, parameters: dict[str, str]) -> Iterator[Fault]:
        if parameters["sslmode"] != "verify-full":
            in_url = self.url is not None and "sslmode=" in self.url.get_secret_value()
            key, setting = ("url", "sslmode=verify-full") if in_url else ("ssl_mode", "verify-full")
            cure = f"set {setting}, or use a Unix socket"
            yield Fault(key, "would leave the server unchecked on a network connection", cure)
        if "sslrootcert" not in parameters:
            yield Fault("ssl_root_cert", "is missing", "name the roots that the server's certificate chains to")

    def _files(self) -> dict[str, AnchoredPath]:
        files = {"sslrootcert": self.ssl_root_cert, "sslcert": self.ssl_cert, "sslkey": self.ssl_key}
        return {keyword: path for keyword, path in files.items() if path is not None}


def _parse_url(url: str) -> dict[str, str]:
    """libpq's keywords in a connection URL. ValueError never quotes it: it may hold a password."""
    match = _URL.fullmatch(url)
    if match is None:
        raise ValueError("is no postgresql:// URL")
    hosts = [_HOST_AND_PORT.fullmatch(part) for part in match["hosts"].split(",")]
    if any(part is None for part in hosts):
        raise ValueError("has a malformed host or port")
    found = [part for part in hosts if part is not None]
    parameters = {
        "host": ",".join(unquote(part["host"]).strip("[]") for part in found),
        "port": ",".join(part["port"] or "5432" for part in found),
        "dbname": unquote(match["name"] or ""),
        "user": unquote(match["user"] or ""),
        "password": unquote(match["password"] or ""),
    }
    for pair in filter(None, (match["query"] or "").split("&")):
        keyword, equals, value = pair.partition("=")
        if not equals:
            raise ValueError("has a parameter without a value")
        parameters[unquote(keyword)] = unquote(value)
    return {keyword: value for keyword, value in parameters.items() if value}


def _check_hosts(parameters: dict[str, str]) -> None:
    if "service" in parameters:
        raise ValueError("names a service file, which could say anything")
    if not parameters.get("host"):
        raise ValueError("names no host")
    for host in parameters["host"].split(","):
        if not _is_socket(host):
            Address.parse(f"[{host}]:5432" if ":" in host else f"{host}:5432")


def _is_socket(host: str) -> bool:
    return host.startswith(("/", "@"))


def _over_network(parameters: dict[str, str]) -> bool:
    """Whether libpq would open a TCP connection, be it to this machine. `hostaddr` goes before `host`."""
    hosts = parameters.get("host", "").split(",")
    return "hostaddr" in parameters or not all(_is_socket(host) for host in hosts)
