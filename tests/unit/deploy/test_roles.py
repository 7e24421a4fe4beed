"""Roles: their defaults are their interface, and the specifications say the same."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.deploy.programs import ROLES

NAMES = sorted(path.name for path in ROLES.iterdir() if (path / "tasks").is_dir())
STEPS = ("preflight", "install", "configure", "run")


def _read(path: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(path.read_text("utf-8")) or {}) if path.exists() else {}


def _options(role: str) -> dict[str, Any]:
    """Of all entry points of a role together."""
    entries = _read(ROLES / role / "meta" / "argument_specs.yml")["argument_specs"].values()
    return {name: option for entry in entries for name, option in (entry.get("options") or {}).items()}


@pytest.mark.parametrize("role", NAMES)
def test_every_default_is_specified(role: str) -> None:
    """Defaults and argument specs name the same variables."""
    defaults, options = _read(ROLES / role / "defaults" / "main.yml"), _options(role)
    required = {name for name, option in options.items() if option.get("required")}
    assert set(defaults) == set(options) - required


@pytest.mark.parametrize("role", NAMES)
def test_defaults_agree(role: str) -> None:
    """Where a specification states a default, it is the one that applies."""
    defaults = _read(ROLES / role / "defaults" / "main.yml")
    stated = {name: option["default"] for name, option in _options(role).items() if "default" in option}
    assert {name: defaults[name] for name in stated} == stated


@pytest.mark.parametrize("role", NAMES)
def test_every_option_is_described(role: str) -> None:
    """Each variable has a type and says what it is for."""
    for name, option in _options(role).items():
        assert option.get("type"), name
        assert option.get("description"), name
        assert name.startswith(f"{role}_"), name


@pytest.mark.parametrize("role", NAMES)
def test_the_readme_lists_every_option(role: str) -> None:
    """One row per variable, and none that does not exist."""
    rows = [line for line in (ROLES / role / "README.md").read_text("utf-8").splitlines() if line.startswith("| `")]
    assert {row.split("`")[1] for row in rows} == set(_options(role))


@pytest.mark.parametrize("role", NAMES)
def test_steps(role: str) -> None:
    """A role takes the same steps as every other, in the same order, and looks before it changes anything."""
    text = (ROLES / role / "tasks" / "main.yml").read_text("utf-8")
    taken = [step for step in STEPS if f"{step}.yml" in text]
    assert taken[0] == "preflight"
    assert [text.index(f"{step}.yml") for step in taken] == sorted(text.index(f"{step}.yml") for step in taken)


@pytest.mark.parametrize("role", NAMES)
def test_only_builtin_modules(role: str) -> None:
    """Whoever has ansible-core has every module that a role uses."""
    for path in (ROLES / role).rglob("*.yml"):
        for line in path.read_text("utf-8").splitlines():
            word = line.strip().removeprefix("- ").partition(":")[0]
            assert not word.startswith(("community.", "ansible.posix", "ansible.utils")), f"{path}: {word}"
