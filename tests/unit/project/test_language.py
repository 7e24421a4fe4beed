"""The banned words of docs/style.md appear nowhere in the product and its documentation."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
BANNED = re.compile(
    r"\b(whoever|whomever|somebody|anybody|for ever|in words|mend(?:s|ed|ing)?|torment\w*|guests?|crowds?|rooms?"
    r"|nobody(?! \w+ account)|fell silent|taken back|handed out|is there already|is there twice|so many)\b",
    re.IGNORECASE,
)
"""Words that docs/style.md replaces by a term of the field."""
EXEMPT = {
    "docs/style.md": "it lists the words",
    "zkp/localcluster/postgres.py": "`nobody` is an account",
    "coordinator/state/machine.py": "messages in the state are replicated, and must stay the same within a version",
    "findings/ambient-capability-access.sh": "`nobody` is an account",
}
UNCHANGEABLE = "coordinator/store/migrations/"
"""Migrations are compared with their checksums."""
TEXT = {
    ".py",
    ".md",
    ".proto",
    ".yml",
    ".yaml",
    ".j2",
    ".sql",
    ".service",
    ".timer",
    ".toml",
    ".sh",
    ".circom",
    ".txt",
}


def product_files() -> list[str]:
    """Return the tracked text files outside tests/."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [
        name
        for name in listed.split("\n")
        if Path(name).suffix in TEXT and not name.startswith(("tests/", UNCHANGEABLE)) and name not in EXEMPT
    ]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs the list of tracked files: run it in a git checkout")
def test_no_banned_word() -> None:
    """Each occurrence is shown with its file and line."""
    names = product_files()
    assert len(names) > 300
    found = [
        f"{name}:{number}: {match[0]}"
        for name in names
        for number, line in enumerate((ROOT / name).read_text(encoding="utf-8").splitlines(), start=1)
        for match in BANNED.finditer(line)
    ]
    assert found == []


@pytest.mark.parametrize("text", ["Whoever leads", "for ever", "the proofs room", "mended", "nobody knows"])
def test_the_words_are_recognised(text: str) -> None:
    """Upper case and inflected forms, too."""
    assert BANNED.search(text)
