"""The benchmarks are started by hand, now and then: that they can be started at all is seen here."""

import importlib
import pkgutil

import pytest

from tests import bench

_MODULES = [module.name for module in pkgutil.walk_packages(bench.__path__, f"{bench.__name__}.")]


@pytest.mark.parametrize("name", [name for name in _MODULES if not name.endswith("__main__")])
def test_every_module_can_be_imported(name: str) -> None:
    """Whatever an import would trip over."""
    importlib.import_module(name)
