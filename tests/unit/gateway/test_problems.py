"""Refusals as problem details."""

from gateway.problems import BUSY, INVALID_FIELD, KINDS, ApiProblem, invalid_field


def test_a_refusal_has_every_member() -> None:
    """Type, title and status come from the kind, other members from the error."""
    assert invalid_field("leaves[3]", "is out of range").document("r-1") == {
        "type": "urn:zkp:problem:invalid-field",
        "title": INVALID_FIELD.title,
        "status": 400,
        "detail": "leaves[3]: is out of range",
        "field": "leaves[3]",
        "request_id": "r-1",
    }


def test_without_a_field_there_is_no_such_member() -> None:
    """Programs test for the member, not for null."""
    assert "field" not in ApiProblem(BUSY, "try again").document("r-1")


def test_retry_after_is_in_whole_seconds_and_at_least_one() -> None:
    """Rounded up, so that the wait is long enough."""
    for seconds, header in ((0.01, "1"), (1.0, "1"), (1.2, "2")):
        assert ApiProblem(BUSY, "", retry_after=seconds).headers == {"Retry-After": header}
    assert ApiProblem(BUSY, "").headers == {}


def test_kinds_have_distinct_types() -> None:
    """No two share a type, and every one is an error."""
    assert len({kind.type_uri for kind in KINDS}) == len(KINDS)
    assert all(400 <= kind.status < 600 for kind in KINDS)
