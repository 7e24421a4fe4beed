"""Finds the private keys on this host, and says which they are without showing them. Run by verify.yml, as root.

Prints JSON: {"keys": {PATH: {"id": …, "mode": "0640", "owner": "root"}}, "unreadable": [PATH, …]}. Two files have the
same id where they hold the same key. Encrypted keys, whose id is unknown, are unreadable.
"""

import base64
import hashlib
import json
import pwd
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

_PLACES = ("etc", "home", "opt", "root", "srv", "tmp", "usr/local", "var")
_BEGIN = b"PRIVATE KEY-----"
_KEY = re.compile(rb"-----BEGIN ([A-Z ]*)PRIVATE KEY-----\s.*?-----END \1PRIVATE KEY-----", re.DOTALL)


def files() -> Iterator[Path]:
    """Every text file in which there is a private key, without following links."""
    places = [f"/{place}" for place in _PLACES]
    found = subprocess.run(
        ["grep", "--recursive", "--files-with-matches", "--binary-files=without-match", "--no-messages",
         "--null", "--regexp", _BEGIN.decode(), *places],
        capture_output=True, text=True, check=False,
    ).stdout  # fmt: skip
    return (Path(path) for path in found.split("\0") if path)


def identify(pem: bytes, path: Path) -> str | None:
    """A digest of the public half, or None for a key that does not open without a passphrase."""
    if b"BEGIN OPENSSH" in pem:
        # Its public key can only be asked of the file itself.
        command, given = ["ssh-keygen", "-y", "-P", "", "-f", str(path)], None
    else:
        command, given = ["openssl", "pkey", "-pubout", "-outform", "DER", "-passin", "pass:"], pem
    done = subprocess.run(command, input=given, capture_output=True, check=False)
    if done.returncode != 0:
        return None
    public = done.stdout if given else base64.b64decode(done.stdout.split()[1])
    return hashlib.sha256(public).hexdigest()


def owner(uid: int) -> str:
    """The account's name, or "uid N" where there is none, as for files of a removed account."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def main() -> int:
    """The exit status: 0, whatever was found."""
    keys, unreadable = {}, []
    for path in files():
        try:
            data = path.read_bytes()
            status = path.stat()
        except OSError:  # gone in the meantime
            continue
        for match in _KEY.finditer(data):
            key = identify(match.group(), path)
            if key is None:
                unreadable.append(str(path))
                continue
            keys[str(path)] = {"id": key, "mode": f"{status.st_mode & 0o7777:04o}", "owner": owner(status.st_uid)}
    json.dump({"keys": keys, "unreadable": unreadable}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
