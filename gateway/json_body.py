"""Strict parsing of JSON bodies; a problem names the position of the error.

The input is untrusted; its size is limited before.
"""

from gateway.problems import INVALID_JSON, ApiProblem
from zkp.proofs import strict_json


def parse_object(body: bytes) -> dict[str, object]:
    """Return the JSON object in `body`.

    Raises:
        ApiProblem: The body is not a valid JSON object.
    """
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
