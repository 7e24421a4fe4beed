"""A package named grafana that is not Grafana: it reads, as Grafana's user, the files that the role writes.

Its server wants the password and the TLS of grafana.ini, finds the dashboards where the provisioning says they are,
and asks Prometheus as the data source says. Like the real package it makes a user, and starts nothing by itself.
"""

from pathlib import Path

from tests.hosts.commands import run

_CONTROL = """Package: grafana
Version: 0.0.0
Architecture: all
Maintainer: nobody <nobody@example.org>
Depends: adduser, python3
Description: stands in for Grafana in tests
"""
_AFTER = """#!/bin/sh
set -e
adduser --quiet --system --group --home /usr/share/grafana --no-create-home grafana
chown -R root:grafana /etc/grafana
systemctl daemon-reload
"""
_UNIT = """[Unit]
Description=stands in for Grafana

[Service]
User=grafana
Group=grafana
ExecStart=/usr/bin/python3 /usr/share/grafana/server.py

[Install]
WantedBy=multi-user.target
"""


def package(place: Path) -> Path:
    """Build it; the path of the .deb."""
    contents = {
        "DEBIAN/control": _CONTROL,
        "DEBIAN/conffiles": "/etc/grafana/grafana.ini\n",
        "DEBIAN/postinst": _AFTER,
        "lib/systemd/system/grafana-server.service": _UNIT,
        "usr/share/grafana/server.py": Path(__file__).with_name("grafana_server.py").read_text("utf-8"),
        "etc/grafana/grafana.ini": "[server]\nprotocol = http\nhttp_port = 3000\n",
        "etc/grafana/provisioning/datasources/sample.yaml": "# nothing\n",
    }
    for name, text in contents.items():
        path = place / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        path.chmod(0o755 if path.name == "postinst" else 0o644)
    made = place / "grafana.deb"
    run("dpkg-deb", "--root-owner-group", "--build", str(place / "tree"), str(made))
    return made
