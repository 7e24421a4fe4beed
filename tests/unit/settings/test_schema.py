"""What is derived from a schema: variables, near names, examples."""

import pytest

from zkp.daemon.settings import SchemaError, Section
from zkp.daemon.settings.schema import find, leaves, nearest, variables


class Inner(Section):
    """Two keys, one of them with an underscore."""

    open_conns: int = 1
    hosts: tuple[str, ...] = ()


class Outer(Section):
    """A section beside a key."""

    max: Inner = Inner()
    size: int | None = None
    extra: dict[str, int] | None = None


class Ambiguous(Section):
    """`max.open_conns` and `max_open_conns` would be one variable."""

    max: Inner = Inner()
    max_open_conns: int = 1


def test_every_leaf_has_a_variable() -> None:
    """Names are the prefix and the path in capitals; lists and mappings are known to need YAML."""
    assert {name: (leaf.key, leaf.structured) for name, leaf in variables(Outer, "NODE").items()} == {
        "NODE_MAX_OPEN_CONNS": ("max.open_conns", False),
        "NODE_MAX_HOSTS": ("max.hosts", True),
        "NODE_SIZE": ("size", False),
        "NODE_EXTRA": ("extra", True),
    }


def test_a_schema_in_which_two_keys_share_a_variable_is_refused() -> None:
    """The mistake is the program's, and is found whatever the environment holds."""
    with pytest.raises(SchemaError, match=r"max\.open_conns and max_open_conns .* NODE_MAX_OPEN_CONNS"):
        variables(Ambiguous, "NODE")


def test_the_nearest_name() -> None:
    """A slip is recognised, another word is not."""
    known = {leaf.key: leaf.key for leaf in leaves(Outer)}
    assert nearest("max.open_cons", known) == "max.open_conns"
    assert nearest("telephone", known) is None


def test_finding_what_is_not_there() -> None:
    """Beyond the schema there is the innermost section, and no field."""
    assert find(Outer, ("max", "nothing")) == (Inner, None)
    assert find(Outer, ("size", "nothing")) == (Outer, Outer.model_fields["size"])
