"""The programs that the playbooks carry: they are files of roles, in no package, and loaded by their path."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

PROJECT = Path(__file__).resolve().parents[3]
ROLES = PROJECT / "ansible" / "roles"


def program(role: str, name: str) -> ModuleType:
    """A module from a role's files."""
    return _load(f"role_{role}_{name}", ROLES / role / "files" / f"{name}.py")


def playbook_program(name: str) -> ModuleType:
    """A module from the files that belong to playbooks."""
    return _load(f"playbook_{name}", PROJECT / "ansible" / "files" / f"{name}.py")


def _load(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their own module up
    spec.loader.exec_module(module)
    return module
