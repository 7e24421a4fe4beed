#!/usr/bin/env bash
# libpq: `?ssl=true` in a database URL is not refused; it asks for encryption without verification.
#
# Guess:     libpq has no parameter `ssl` (that is JDBC's), so a URL with it is refused like any other unknown one.
# Found:     `ssl=true` becomes `sslmode=require`, which encrypts and does not verify the server. `ssl=on`,
#            `ssl=false` and `ssl=1` are refused as unknown.
# Versions:  psycopg 3.3.9 with the libpq of psycopg-binary 3.3.9, Python 3.11.
# Seen:      ssl=true -> {'dbname': 'zkp', 'host': 'db.example', 'sslmode': 'require'}
#            ssl=on   -> invalid URI query parameter: "ssl"
# Matters:   a URL copied from a Java service connects and verifies nothing. The coordinator asks for
#            sslmode=verify-full in its rules and so refuses such a URL; a check for unknown names alone would pass it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check 'psycopg[binary]==3.3.9'
"$work/venv/bin/python" - <<'PYTHON'
from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

URL = "postgresql://db.example/zkp?ssl="
taken = conninfo_to_dict(URL + "true")
print("ssl=true ->", taken)
assert taken.get("sslmode") == "require" and "ssl" not in taken, taken
for value in ("on", "false", "1"):
    try:
        raise SystemExit(f"ssl={value} was taken: {conninfo_to_dict(URL + value)}")
    except ProgrammingError as error:
        print(f"ssl={value} -> {str(error).strip()}")
        assert "ssl" in str(error)
PYTHON
