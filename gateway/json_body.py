"""Reading a body as JSON, strictly: a refusal is a problem that says where the body is wrong.

What is read here came from anyone; its size was bounded before.
"""

from gateway.problems import INVALID_JSON, ApiProblem
from zkp.proofs import strict_json


def parse_object(body: bytes) -> dict[str, object]:
    """The JSON object that `body` holds; raises a `ApiProblem`."""
    if not body.strip():
        raise _invalid("the body is empty; send a JSON object")
    try:
        document = strict_json.parse(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise _invalid(f"byte {error.start} is not UTF-8; encode the body as UTF-8") from None
    except strict_json.JsonError as error:
        raise _invalid(str(error)) from None
    if not isinstance(document, dict):
        raise _invalid(f"the body is {strict_json.kind(document)}; send a JSON object")
    return document


def _invalid(detail: str) -> ApiProblem:
    return ApiProblem(INVALID_JSON, detail)
