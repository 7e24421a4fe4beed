"""The statements of `queries.sql` by name. SQL is only in .sql files."""

import re
from collections.abc import Mapping
from importlib import resources
from types import MappingProxyType

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


def parse(text: str) -> Mapping[str, bytes]:
    """Return the statements of a text, by the names in its lines `-- name: NAME`, without comments.

    Raises:
        ValueError: Two statements have the same name.
    """
    _, *parts = _NAME.split(text)
    statements: dict[str, bytes] = {}
    for name, block in zip(parts[::2], parts[1::2], strict=True):
        if name in statements:
            raise ValueError(f"queries.sql: {name} is duplicated")
        lines = [line for line in block.splitlines() if not line.startswith("--")]
        statements[name] = "\n".join(lines).strip().encode()
    return MappingProxyType(statements)


QUERIES = parse(resources.files(__package__).joinpath("queries.sql").read_text(encoding="utf-8"))
