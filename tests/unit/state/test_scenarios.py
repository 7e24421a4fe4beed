"""The scenario files say what the state machine does; this runs them."""

from pathlib import Path

import pytest

from tests.unit.state.scenario import replay

FILES = sorted((Path(__file__).parent / "scenarios").glob("*.txt"))


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_the_machine_does_what_the_scenario_says(file: Path) -> None:
    """Every command of the file has exactly the outcome that is written below it."""
    text = file.read_text()
    assert replay(text) == text
