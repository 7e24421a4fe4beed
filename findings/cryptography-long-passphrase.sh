#!/usr/bin/env bash
# cryptography: a passphrase of 1,024 bytes is "too long" when a key is written, and "incorrect" when it is read.
#
# Guess:     the limit of 1,023 bytes is one error with one message, whichever way the key goes.
# Found:     writing raises ValueError "Passwords longer than 1023 bytes are not supported by this backend"; reading a
#            key that has a shorter passphrase with 1,024 bytes raises ValueError "Incorrect password …", and an empty
#            one raises TypeError "Password was not given …" as if none had been passed.
# Versions:  cryptography 50.0.2, Python 3.11.
# Matters:   an operator who stored a longer passphrase is told that it is wrong, and looks for another one. `pki`
#            checks the length itself, when a passphrase is set and when it is read.
set -euo pipefail
PINNED=50.0.2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "cryptography==$PINNED"
"$work/venv/bin/python" - <<'PYTHON'
from cryptography.hazmat.primitives import serialization as s
from cryptography.hazmat.primitives.asymmetric import ec

key = ec.generate_private_key(ec.SECP256R1())


def write(phrase: bytes) -> bytes:
    return key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.BestAvailableEncryption(phrase))


def error_of(act) -> Exception:
    try:
        act()
    except Exception as error:
        print(f"{type(error).__name__}: {error}")
        return error
    raise SystemExit("no error: the behaviour has changed")


pem = write(b"x" * 1023)
s.load_pem_private_key(pem, b"x" * 1023)
written = error_of(lambda: write(b"x" * 1024))
read = error_of(lambda: s.load_pem_private_key(pem, b"x" * 1024))
empty = error_of(lambda: s.load_pem_private_key(pem, b""))
assert isinstance(written, ValueError) and "1023" in str(written)
assert isinstance(read, ValueError) and "1023" not in str(read) and "ncorrect password" in str(read)
assert isinstance(empty, TypeError) and "not given" in str(empty)
PYTHON
