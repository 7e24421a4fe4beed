"""verify.yml is worth something: what is wrong on a host is found and named."""

from tests.hosts.deployment import Deployment
from tests.hosts.host import Host


def test_what_is_wrong_is_found_and_named(network: Deployment) -> None:
    """A key of another host, one that all may read, an open port, the authority's key, a unit that is off."""
    one, two, three = (network.members[name] for name in ("host-1", "host-2", "host-3"))
    key = one.run("cat /etc/zkp/pki/worker/key.pem")
    carried(two, "borrowed.pem", key)
    carried(three, "authority.pem", (network.directory / "authority/issuer.key").read_text())
    one.run("chmod 0644 /etc/zkp/pki/worker/key.pem")
    three.run("systemd-run --quiet --unit=stray python3 -m http.server 7777; systemctl stop zkp-cert-renew.timer")
    try:
        verified = network.play("verify.yml")
    finally:
        two.run("rm /root/borrowed.pem")
        three.run("rm /root/authority.pem; systemctl stop stray; systemctl start zkp-cert-renew.timer")
        one.run("chmod 0640 /etc/zkp/pki/worker/key.pem")

    assert verified.status != 0
    assert "/root/borrowed.pem" in verified.refusals
    assert "/root/authority.pem" in verified.refusals
    assert "/etc/zkp/pki/worker/key.pem on host-1 has mode 0644" in verified.refusals
    assert "host-3 listens on 7777" in verified.refusals
    assert "zkp-cert-renew.timer on host-3" in verified.refusals


def carried(host: Host, name: str, key: str) -> None:
    """Put a key into root's home; not by a command, which sudo would write into the journal with all its words."""
    path = host.root / "root" / name
    path.touch(0o600)
    path.write_text(key)
