"""Certificates are renewed on their hosts in time, unnoticed; and a network that slept through it all recovers."""

from collections.abc import Mapping

import pytest

from tests.hosts.ageing import EXPIRED, PREPARED, RENEWABLE, age, age_here, directories, serial
from tests.hosts.deployment import HOSTS, Deployment
from tests.hosts.host import Host
from tests.hosts.playbook import Outcome
from tests.integration.cluster.network import eventually

_RENEW = "systemctl start zkp-cert-renew.service"
_SOONER = "/run/systemd/system/zkp-cert-renew.timer.d"
_TIMER = "systemctl daemon-reload; systemctl restart zkp-cert-renew.timer"


def test_a_host_renews_by_itself_without_a_restart_or_an_election(network: Deployment) -> None:
    """What the playbook has prepared is taken into use by the timer when it is time, and not before."""
    authority = network.directory / "authority"
    places = [(network.members[name], place) for name in HOSTS for place in directories(network.members[name])]
    assert len(places) >= 4 * len(HOSTS)
    for host, place in places:
        age(host, place, authority, PREPARED)
    prepared = network.play("site.yml", "--tags", "pki").demand_success()
    assert "a third of its life is over" in prepared.output
    before, cluster = network.running_since(), network.status()
    old = {(host.name, place): serial(host, place) for host, place in places}

    for host in network.members.values():
        host.run(_RENEW)
    assert {(host.name, place): serial(host, place) for host, place in places} == old  # it is not time yet

    for host, place in places:
        age(host, place, authority, RENEWABLE)
    aged = {(host.name, place): serial(host, place) for host, place in places}
    for host in network.members.values():
        of_host = {place: each for (name, place), each in aged.items() if name == host.name}
        the_timer_renews(host, of_host)

    network.wait_until_well()
    for host, place in places:
        assert serial(host, place) not in {old[host.name, place], aged[host.name, place]}, f"{host.name}: {place}"
        assert served(host.name, network) == serial(host, "/etc/zkp/pki/coordinator")
    now = network.status()
    assert (now["term"], now["leader"]) == (cluster["term"], cluster["leader"])
    assert network.running_since() == before
    network.prove()


def the_timer_renews(host: Host, aged: Mapping[str, int]) -> None:
    """It goes off every few seconds, until no identity of the host has its aged certificate any more."""
    often = "[Timer]\\nOnCalendar=*:*:0/5\\nRandomizedDelaySec=0\\nAccuracySec=1s\\n"
    host.run(f"mkdir -p {_SOONER}; printf '{often}' > {_SOONER}/often.conf; {_TIMER}")
    try:
        eventually("renewed certificates", lambda: all(serial(host, place) != old for place, old in aged.items()))
    finally:
        host.run(f"rm -r {_SOONER}; {_TIMER}; {_RENEW}")  # which waits for the run that may be under way


@pytest.mark.slow
def test_a_network_whose_certificates_have_all_expired_recovers(network: Deployment) -> None:
    """Every host was off for a month: nothing works any more, and one run of site.yml mends it."""
    authority = network.directory / "authority"
    for host in network.members.values():
        host.run("systemctl stop zkp-cert-renew.timer 'zkp-*.service'")
        for place in directories(host):
            age(host, place, authority, EXPIRED)
            host.run(f"rm -rf {place}/next")
    for role in ("admin", "client"):
        age_here(network.directory / "identities" / role, authority, EXPIRED)
    sleep_through_it(network)
    assert network.ailments()

    network.play().demand_success()

    network.wait_until_well()
    network.prove()
    settled(network.play())
    for host in network.members.values():
        host.run("systemctl reset-failed")


def sleep_through_it(network: Deployment) -> None:
    """Every host is off, and on again; none of them gets as far as `running`, because its daemons cannot serve."""
    for host in network.members.values():
        host.power_off()
    for host in network.members.values():
        host.power_on(network.fleet.bridge)
    eventually(
        "ssh to every host", lambda: all(host.ssh("true").returncode == 0 for host in network.members.values())
    )


def settled(outcome: Outcome) -> None:
    """A run that had nothing to do."""
    assert outcome.demand_success().changed == []


def served(name: str, network: Deployment) -> int:
    """The serial number of the certificate that a host's coordinator shows to callers."""
    host = network.members[name]
    files = " ".join(f"-{flag} /etc/zkp/pki/coordinator/{file}.pem" for flag, file in _FILES.items())
    shown = host.run(
        f"openssl s_client -connect {host.address}:9090 -alpn h2 {files} </dev/null | openssl x509 -serial"
    )
    return int(shown.split("serial=")[1].split()[0], 16)


_FILES = {"cert": "certificate", "key": "key", "CAfile": "ca"}
