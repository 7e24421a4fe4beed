"""Runs on a test host in place of Grafana; see grafana.py. Answers whoever has the password, in JSON.

{"dashboards": [the titles that it finds], "prometheus": the HTTP status with which the data source answers}
"""

import base64
import configparser
import json
import os
import re
import ssl
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_ETC = Path("/etc/grafana")
_VERSIONS = {"TLS1.2": ssl.TLSVersion.TLSv1_2, "TLS1.3": ssl.TLSVersion.TLSv1_3}


def expanded(text: str) -> str:
    """As Grafana takes a value: of a file, of the environment, or as it is."""
    if match := re.fullmatch(r"\$__file\{(.+)\}", text):
        return Path(match[1]).read_text("utf-8").strip()
    return os.environ[text[1:]] if text.startswith("$") else text


def provisioned(kind: str) -> dict[str, str]:
    """Key → value of every line of the provisioning's files of a kind: they are too plain to need a parser."""
    lines = "\n".join(path.read_text("utf-8") for path in (_ETC / "provisioning" / kind).glob("*.y*ml"))
    return dict(re.findall(r"^ +(?:- )?(\w+): (\S.*)$", lines, re.MULTILINE))


def dashboards() -> list[str]:
    """Their titles."""
    paths = Path(provisioned("dashboards")["path"]).glob("*.json")
    return sorted(json.loads(path.read_text("utf-8"))["title"] for path in paths)


def prometheus() -> int:
    """Ask it as the data source says."""
    source = provisioned("datasources")
    context = ssl.create_default_context(cadata=expanded(source["tlsCACert"]))
    files = (re.sub(r"\$__file\{(.+)\}", r"\1", source[name]) for name in ("tlsClientCert", "tlsClientKey"))
    context.load_cert_chain(*files)
    url = f"{expanded(source['url'])}/-/ready"
    with urllib.request.urlopen(url, context=context, timeout=5) as answer:  # noqa: S310 - the inventory's own address
        return int(answer.status)


def main() -> None:
    """Serve until it is stopped; whatever it cannot read ends it."""
    settings = configparser.RawConfigParser()
    settings.read_string((_ETC / "grafana.ini").read_text("utf-8"))
    server, security = settings["server"], settings["security"]
    account = f"{security['admin_user']}:{expanded(security['admin_password'])}"
    wanted = f"Basic {base64.b64encode(account.encode()).decode()}"
    dashboards()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.headers["Authorization"] == wanted
            answer = {"dashboards": dashboards(), "prometheus": prometheus()} if known else {}
            self.send_response(200 if known else 401)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = _VERSIONS[server["min_tls_version"]]
    context.load_cert_chain(server["cert_file"], server["cert_key"])
    listener = ThreadingHTTPServer(("", int(server["http_port"])), Handler)
    listener.socket = context.wrap_socket(listener.socket, server_side=True)
    listener.serve_forever()


if __name__ == "__main__":
    main()
