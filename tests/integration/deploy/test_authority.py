"""The authority that the playbook makes on the controller where there is none."""

import sys
from pathlib import Path

from tests.integration.deploy.playbooks import inventory, part, play

_PASSPHRASE = "wren-lantern-cobalt-77"
_HOSTS = {"coordinator-1": {"ansible_host": "192.168.1.1"}}


def test_the_roots_key_is_encrypted_and_its_passphrase_is_nowhere(tmp_path: Path) -> None:
    """What a vault holds is used and forgotten, neither said nor left in a file; a second run needs none."""
    code, said = _authority(tmp_path, "--diff", "-v", "-e", f"pki_passphrase={_PASSPHRASE}")

    assert code == 0, said
    assert "BEGIN ENCRYPTED PRIVATE KEY" in (tmp_path / "authority/root.key").read_text("utf-8")
    assert _PASSPHRASE not in said
    files = [path for name in ("authority", "state") for path in (tmp_path / name).rglob("*") if path.is_file()]
    assert not [path for path in files if _PASSPHRASE.encode() in path.read_bytes()]
    assert (tmp_path / "state/bundle/ca.pem").exists()

    code, said = _authority(tmp_path)
    assert code == 0, said
    assert "changed=0" in said


def test_without_a_passphrase_there_is_no_authority(tmp_path: Path) -> None:
    """Nobody is there to be asked: it says what to set, and has made nothing."""
    code, said = _authority(tmp_path)

    assert code != 0
    assert "set pki_passphrase in a vault" in " ".join(said.split())
    assert not (tmp_path / "authority").exists()


def _authority(place: Path, *options: str) -> tuple[int, str]:
    """Run what site.yml does to have one."""
    (place / "state").mkdir(exist_ok=True)
    if not (place / "inventory").exists():
        inventory(place, _HOSTS, coordinators=[*_HOSTS])
    facts = {
        "zkp_authority": place / "authority",
        "zkp_controller_state": place / "state",
        "zkp_controller_bin": Path(sys.executable).parent,
    }
    words = [word for name, value in facts.items() for word in ("-e", f"{name}={value}")]
    return play(part(place, "pki", "authority.yml"), place / "inventory", place, *words, *options)
