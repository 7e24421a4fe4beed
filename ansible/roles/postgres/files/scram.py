"""Whether a role's stored password is the wanted one; where it is not, what to store: a SCRAM-SHA-256 verifier.

Reads {"password": …, "stored": …} from standard input, so that neither shows in the list of processes. The format is
that of RFC 5803, as PostgreSQL keeps it: SCRAM-SHA-256$ITERATIONS:SALT$STORED_KEY:SERVER_KEY. Prints nothing when the
stored one is right.
"""

import hashlib
import hmac
import json
import os
import re
import sys
from base64 import b64decode, b64encode

ITERATIONS = 4096
STORED = re.compile(r"SCRAM-SHA-256\$(\d+):([^$]+)\$[^:]+:.+")


def verifier(password: str, salt: bytes, iterations: int) -> str:
    """What PostgreSQL would store for the password."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    keys = hashlib.sha256(client_key).digest(), hmac.digest(salted, b"Server Key", "sha256")
    stored_key, server_key = (b64encode(key).decode("ascii") for key in keys)
    return f"SCRAM-SHA-256${iterations}:{b64encode(salt).decode('ascii')}${stored_key}:{server_key}"


def main() -> None:
    """One object in, at most one line out."""
    given = json.load(sys.stdin)
    found = STORED.fullmatch(given["stored"])
    if found and hmac.compare_digest(
        given["stored"], verifier(given["password"], b64decode(found[2]), int(found[1]))
    ):
        return
    print(verifier(given["password"], os.urandom(16), ITERATIONS))


if __name__ == "__main__":
    main()
