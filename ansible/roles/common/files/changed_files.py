"""Which of the wanted files, directories and links are not just so: JSON in, a JSON list of their paths out.

Each is {path, content} or {path, link} or {path, directory: true}; all but links have owner, group (both root unless
they are given) and mode (0644, or 0755 for a directory).
"""

import grp
import json
import pwd
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def differs(wanted: Mapping[str, Any]) -> bool:
    """Return what differs; a missing file, or one of an unknown owner, does."""
    path = Path(wanted["path"])
    try:
        if "link" in wanted:
            return path.readlink() != Path(wanted["link"])
        found, directory = path.lstat(), "directory" in wanted
        access = pwd.getpwuid(found.st_uid).pw_name, grp.getgrgid(found.st_gid).gr_name, stat.S_IMODE(found.st_mode)
        mode = int(wanted.get("mode", "0755" if directory else "0644"), 8)
        if access != (wanted.get("owner", "root"), wanted.get("group", "root"), mode):
            return True
        if directory:
            return not stat.S_ISDIR(found.st_mode)
        return not (stat.S_ISREG(found.st_mode) and path.read_bytes() == str(wanted["content"]).encode())
    except (OSError, KeyError):
        return True


def main() -> None:
    """From standard input to standard output."""
    print(json.dumps([wanted["path"] for wanted in json.load(sys.stdin) if differs(wanted)]))


if __name__ == "__main__":
    main()
