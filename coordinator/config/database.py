"""Settings of the PostgreSQL connection. Over a network, TLS with verification of the server is mandatory.

A connection is described either by a libpq URL or by single keys; both end as libpq's own keywords, which is
all that `coordinator.store` sees.
"""

from collections.abc import Iterator
from typing import Annotated
from urllib.parse import parse_qs, urlsplit

from pydantic import Field, SecretStr

from coordinator.store import ConninfoError, check_values, parse_url
from zkp.daemon.settings import Address, AnchoredPath, Count, Duration, Section, SettingFault

_JDBC_SSL = "ssl"  # of JDBC, and of libpq as an old name of sslmode=require


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

        Raises ConninfoError when `url` is malformed; settings that were validated never do.
        """
        given = {"host": self.host or "", "port": str(self.port), "dbname": self.name, "user": self.user}
        if self.url is not None:
            given = parse_url(self.url.get_secret_value())
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

    def rules(self) -> Iterator[SettingFault]:
        """Yield the settings that do not fit together."""
        if (self.ssl_cert is None) != (self.ssl_key is None):
            missing = "ssl_cert" if self.ssl_cert is None else "ssl_key"
            yield SettingFault(missing, "is missing", "give ssl_cert and ssl_key together, or neither")
        if self.url is None and not self.host:
            cure = "name the server or its socket directory, or set database.url or ZKP_DATABASE_URL"
            yield SettingFault("host", "is missing", cure)
            return
        key = "host" if self.url is None else "url"
        try:
            parameters = self.parameters()
            _check_hosts(parameters)
            network = _over_network(parameters)
            # Over a network one mode is allowed, and the rules below say so.
            check_values({**parameters, "sslmode": "verify-full"} if network else parameters)
        except ConninfoError as error:
            yield SettingFault(key, error.what, error.hint)
            return
        if network:
            yield from self._network_rules(parameters)

    def _network_rules(self, parameters: dict[str, str]) -> Iterator[SettingFault]:
        if parameters["sslmode"] != "verify-full":
            url = "" if self.url is None else self.url.get_secret_value()
            in_url = self.url is not None and "sslmode" in parse_url(url)
            key, setting = ("url", "sslmode=verify-full") if in_url else ("ssl_mode", "verify-full")
            cure = f"set {setting}, or use a Unix socket"
            if in_url and _JDBC_SSL in parse_qs(urlsplit(url).query):
                cure = f"remove ssl=…, which libpq reads as sslmode=require, and {cure}"
            yield SettingFault(key, "would leave the server unchecked on a network connection", cure)
        if "sslrootcert" not in parameters:
            yield SettingFault(
                "ssl_root_cert", "is missing", "name the roots that the server's certificate chains to"
            )

    def _files(self) -> dict[str, AnchoredPath]:
        files = {"sslrootcert": self.ssl_root_cert, "sslcert": self.ssl_cert, "sslkey": self.ssl_key}
        return {keyword: path for keyword, path in files.items() if path is not None}


def _check_hosts(parameters: dict[str, str]) -> None:
    if "service" in parameters:
        raise ConninfoError("names a service file, whose content is not checked", "write its parameters into the URL")
    if not parameters.get("host"):
        raise ConninfoError("names no host", "write postgresql://USER@HOST:PORT/NAME")
    for host in parameters["host"].split(","):
        if not _is_socket(host):
            try:
                Address.parse(f"[{host}]:5432" if ":" in host else f"{host}:5432")
            except ValueError as error:
                raise ConninfoError(str(error), "write a host name or address") from None


def _is_socket(host: str) -> bool:
    return host.startswith(("/", "@"))


def _over_network(parameters: dict[str, str]) -> bool:
    """Whether libpq would open a TCP connection, be it to this machine. `hostaddr` goes before `host`."""
    hosts = parameters.get("host", "").split(",")
    return "hostaddr" in parameters or not all(_is_socket(host) for host in hosts)
