"""Connection URLs and parameters, parsed and checked by libpq itself, through psycopg. No connection is made.

libpq's messages quote the text that is invalid, which may be part of a password that is not percent-encoded: no
quoted value is repeated here.
"""

import ipaddress
import re
from collections.abc import Mapping
from difflib import get_close_matches
from urllib.parse import unquote

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

_DEFAULT_PORT = "5432"
_NAME = re.compile(r"[A-Za-z_]{1,40}")
_NO_SOCKET = "/dev/null"  # not a directory, so that it cannot contain a socket
_WHOLE_NUMBERS = (  # libpq checks these only once it is connected
    "connect_timeout",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "tcp_user_timeout",
)


class ConninfoError(ValueError):
    """libpq refuses the URL or a parameter. `what` and `hint` are for the operator and contain no secrets."""

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(f"{what}; {hint}")
        self.what = what
        self.hint = hint


def parse_url(url: str) -> dict[str, str]:
    """Return libpq's keywords in a connection URL, without those whose value is empty.

    Raises:
        ConninfoError: The URL is invalid.
    """
    if not url.startswith(("postgresql://", "postgres://")):
        raise ConninfoError("is not a postgresql:// URL", "write postgresql://USER@HOST:PORT/NAME")
    try:
        parsed = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise _unparsable(url) from None
    parameters = {keyword: str(value) for keyword, value in parsed.items() if value not in (None, "")}
    ports = parameters.get("port", "").split(",")
    hosts = parameters.get("host", "").split(",")
    given = ports if len(ports) > 1 else ports * len(hosts)
    return {**parameters, "port": ",".join(port or _DEFAULT_PORT for port in given)}


def check_values(parameters: Mapping[str, str]) -> None:
    """Check every value that libpq checks before it connects, such as sslmode.

    Raises:
        ConninfoError: libpq would refuse a value.
    """
    for keyword in _WHOLE_NUMBERS:
        if keyword in parameters and not re.fullmatch(r"-?[0-9]{1,9}", parameters[keyword]):
            raise ConninfoError(f"has a {keyword} that is not a whole number", "write a number")
    if any(not re.fullmatch(r"[0-9]{1,5}", port) for port in parameters.get("port", _DEFAULT_PORT).split(",")):
        raise ConninfoError("has a port that is not a number", "write HOST:PORT, the password percent-encoded")
    if any(not _is_address(address) for address in parameters.get("hostaddr", "").split(",")):
        raise ConninfoError("has a hostaddr that is not an IP address", "write an IP address, or use host")
    # libpq checks everything else when it starts to connect; with a socket that cannot exist, that fails immediately.
    sockets = ",".join([_NO_SOCKET] * len(parameters.get("host", "").split(",")))
    probe = {**parameters, "host": sockets, "hostaddr": "", "password": ""}
    connection = pq.PGconn.connect_start(make_conninfo("", **probe).encode())
    reason = connection.error_message.decode(errors="replace")
    connection.finish()
    if _NO_SOCKET not in reason:
        without_value = re.sub(r': ".*', "", reason.strip(), flags=re.DOTALL)
        raise ConninfoError(f"is refused by libpq: {without_value}", "correct this parameter")


def _unparsable(url: str) -> ConninfoError:
    query = url.partition("?")[2]
    if "@" not in query:  # otherwise the query may be the rest of a password that is not percent-encoded
        known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
        for pair in filter(None, query.split("&")):
            name, equals, _ = pair.partition("=")
            name = unquote(name)
            if not equals:
                return ConninfoError("has a parameter without a value", "write NAME=VALUE after the ?")
            if name not in known and _NAME.fullmatch(name):
                return ConninfoError(f"has the unknown parameter {name!r}", _hint_for_unknown(name, known))
    return ConninfoError(
        "cannot be parsed by libpq", "write postgresql://USER@HOST:PORT/NAME, other characters percent-encoded"
    )


def _hint_for_unknown(name: str, known: set[str]) -> str:
    if name == "ssl":
        return "write sslmode=verify-full"
    nearest = get_close_matches(name, known, n=1)
    return f"did you mean {nearest[0]}?" if nearest else "remove it"


def _is_address(text: str) -> bool:
    try:
        return not text or bool(ipaddress.ip_address(text))
    except ValueError:
        return False
