"""Every limit of the API is written once, so that client, gateway and coordinator cannot disagree."""

import ast
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from coordinator.errors import InvalidRequest
from coordinator.services.validation import Submission, check
from gateway import openapi
from gateway.problems import ApiProblem
from gateway.requests import read_submission
from zkp.cli.app import app
from zkp.proofs import circuits

ROOT = Path(__file__).parents[3]
PACKAGES = ("coordinator", "gateway", "worker", "zkp")


def described_maximum() -> int:
    """The largest `max_retries` that the API description allows."""
    document: dict[str, Any] = openapi.document(6_000_000)
    maximum = document["components"]["schemas"]["AdditionSubmission"]["properties"]["max_retries"]["anyOf"][0][
        "maximum"
    ]
    assert isinstance(maximum, int)
    return maximum


def through_the_gateway(max_retries: int) -> Submission:
    """What the gateway hands to the coordinator for such a request; raises `ApiProblem`."""
    body = {"circuit": "addition", "inputs": {"a": 1, "b": 2}, "max_retries": max_retries}
    prepared = read_submission(json.dumps(body).encode(), None, keyed=False)
    return Submission("t", prepared.circuit, prepared.inputs, prepared.public_inputs, prepared.max_retries)


def coordinator_accepts(max_retries: int) -> bool:
    """Whether a coordinator takes a submission with this `max_retries`."""
    sample = circuits.prepare("addition", {"a": 1, "b": 2})
    try:
        check(Submission("t", "addition", sample.inputs, sample.public_inputs, max_retries), "client/a", 3)
    except InvalidRequest:
        return False
    return True


def test_the_coordinator_accepts_every_max_retries_that_the_gateway_accepts() -> None:
    """The described maximum passes gateway and coordinator, and one more is refused by both."""
    most = described_maximum()
    assert check(through_the_gateway(most), "client/a", 3).max_retries == most
    with pytest.raises(ApiProblem):
        through_the_gateway(most + 1)
    assert not coordinator_accepts(most + 1)


def test_the_command_refuses_max_retries_that_the_coordinator_refuses() -> None:
    """The first value that a coordinator refuses is a usage error of `zkp submit --max-retries`."""
    refused = next(value for value in range(1_000) if not coordinator_accepts(value))
    options = ["submit", "addition", "--a", "1", "--b", "2", "--max-retries", str(refused)]
    answer = CliRunner().invoke(app, options)
    assert answer.exit_code == 2
    assert "--max-retries" in answer.output


def constants() -> Iterator[tuple[str, str]]:
    """Name and file of each public limit at the top of a module."""
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                for target in node.targets if isinstance(node, ast.Assign) else ():
                    if isinstance(target, ast.Name) and target.id.startswith("MAX_"):
                        yield target.id, str(path.relative_to(ROOT))


def part_of(place: str) -> str:
    """The top-level package of a file, or its subpackage of `zkp`."""
    top, below, *_ = place.split("/")
    return f"{top}/{below}" if top == "zkp" else top


def test_no_limit_is_written_in_two_packages() -> None:
    """A constant of the same name in two packages is one limit whose two values can come to differ."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for name, place in constants():
        found[name].add(place)
    several = {name: places for name, places in found.items() if len({part_of(place) for place in places}) > 1}
    assert several == {}
