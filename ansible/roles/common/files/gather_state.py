"""What preflight asks of a host, in one look that changes nothing. Prints JSON.

clock: seconds since 1970; synchronised: whether a time source keeps the clock right, true where that is another
machine's business; listening: the lines of ss for TCP, with the unit of each; packages: what Debian has installed;
accounts: each as NAME:GROUP:HOME:SHELL.
"""

import grp
import json
import pwd
import subprocess
import time


def said(*command: str) -> str:
    """What a program prints, whatever it thinks of it; nothing, where it is missing."""
    try:
        return subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False
        ).stdout
    except FileNotFoundError:
        return ""


def synchronised() -> bool:
    """A container has the clock of its machine."""
    if said("systemd-detect-virt", "--container").strip() not in {"", "none"}:
        return True
    return said("timedatectl", "show", "--property=NTPSynchronized", "--value").strip() == "yes"


def accounts() -> list[str]:
    """One whose group is gone is left out: it has to be made again."""
    groups = {group.gr_gid: group.gr_name for group in grp.getgrall()}
    return [
        f"{account.pw_name}:{groups[account.pw_gid]}:{account.pw_dir}:{account.pw_shell}"
        for account in pwd.getpwall()
        if account.pw_gid in groups
    ]


def main() -> None:
    """The clock last: it is compared with the moment at which the answer arrives."""
    packages = said("dpkg-query", "--show", "--showformat=${db:Status-Status} ${Package}\n").splitlines()
    seen = {
        "packages": [line.split()[1] for line in packages if line.startswith("installed ")],
        "accounts": accounts(),
        "listening": said("ss", "--no-header", "--listening", "--tcp", "--numeric", "--cgroup").splitlines(),
        "synchronised": synchronised(),
        "clock": time.time(),
    }
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
