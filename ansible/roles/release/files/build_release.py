"""Builds what hosts install: every wheel they need, with hashes, in one archive. Runs on the controller.

    build_release.py PROJECT OUT     prints JSON: {"changed": …, "release": "0.1.0-…", "archive": "OUT/….tar"}

A release is named after the version and a digest of everything that goes into it, so that the same sources are the
same release, and no two different ones ever share a name. An archive appears whole or not at all.
"""

import argparse
import fcntl
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

EXTRAS = ("coordinator", "gateway", "prover", "worker")
"""Extras whose dependencies every host gets."""
ABOUT = ("pyproject.toml", "README.md", "LICENSE")
_PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet")
_BUILDING = ".building-"
_SUFFIXES = {".py", ".pyi", ".sql", ".circom", ".typed"}


class BuildError(Exception):
    """One line for the operator."""


def sources(project: Path, patterns: Iterable[str]) -> list[Path]:
    """Every file that goes into the project's wheel, relative to `project`, sorted.

    patterns: of the names of top-level packages, as pyproject.toml has them.
    """
    found = {Path(name) for name in ABOUT if (project / name).is_file()}
    for pattern in patterns:
        for top in (path for path in project.glob(pattern) if path.is_dir() and path.name.isidentifier()):
            found |= {path.relative_to(project) for path in top.rglob("*") if path.suffix in _SUFFIXES}
    return sorted(found)


def release_name(project: Path, version: str, files: Iterable[Path]) -> str:
    """VERSION and the first twelve digits of a digest of the sources, the lock file and this program."""
    digest = hashlib.sha256()
    for path in (*files, Path("requirements.lock")):
        data = (project / path).read_bytes()
        digest.update(f"{path} {len(data)}\n".encode() + data)
    digest.update(Path(__file__).read_bytes())
    return f"{version}-{digest.hexdigest()[:12]}"


def closure(wanted: Iterable[str]) -> set[str]:
    """The names of the distributions that these requirements need, as installed beside this program."""
    names: set[str] = set()
    queue = [Requirement(text) for text in wanted]
    while queue:
        requirement = queue.pop()
        name = canonicalize_name(requirement.name)
        if name in names and not requirement.extras:
            continue
        names.add(name)
        for text in metadata.requires(name) or ():
            needed = Requirement(text)
            extras = ("", *requirement.extras)
            asked = needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras)
            if asked and canonicalize_name(needed.name) not in names:
                queue.append(needed)
    return names


def locked(lock: str, names: set[str]) -> str:
    """The entries of a lock file for these names, hashes included."""
    entries = re.split(r"^(?=[a-z0-9])", lock, flags=re.MULTILINE | re.IGNORECASE)
    chosen = {}
    for entry in entries:
        match = re.match(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==", entry)
        if match and canonicalize_name(match[1]) in names:
            chosen[canonicalize_name(match[1])] = entry
    missing = sorted(names - chosen.keys())
    if missing:
        raise BuildError(f"requirements.lock lacks {', '.join(missing)}: run `make lock`")
    return "".join(chosen.values())


def build(project: Path, out: Path, release: str, about: Mapping[str, Any], files: Sequence[Path]) -> Path:
    """Make the archive of a release."""
    archive = out / f"{release}.tar"
    wanted = [*about["dependencies"], *(need for extra in EXTRAS for need in about["optional-dependencies"][extra])]
    needed = closure(wanted) - {canonicalize_name(about["name"])}  # extras name extras of the project itself
    requirements = locked((project / "requirements.lock").read_text("utf-8"), needed)
    with workplace(out) as place:
        wheels = place / "wheels"
        listed = place / "requirements.txt"
        listed.write_text(requirements, "utf-8")
        # Wheels that others made are taken as they are, what comes as source is built here: hosts build nothing.
        _wheel("--require-hashes", "--requirement", listed, into=wheels)
        _wheel(_copy(project, files, place / "source"), into=wheels)
        made = sorted(wheels.iterdir())
        _check_whole(made, files)
        listed.write_text("".join(map(_pinned, made)), "utf-8")
        draft = place / archive.name
        with tarfile.open(draft, "w") as tar:
            for path in (listed, *made):
                tar.add(path, arcname=str(path.relative_to(place)), filter=_plain)
        draft.rename(archive)
    return archive


@contextmanager
def workplace(out: Path) -> Iterator[Path]:
    """A directory inside `out` for one build at a time; those that killed builds left behind are taken away."""
    out.mkdir(mode=0o755, parents=True, exist_ok=True)
    with (out / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in out.glob(f"{_BUILDING}*"):
            shutil.rmtree(left)
        with tempfile.TemporaryDirectory(dir=out, prefix=_BUILDING) as place:
            yield Path(place)


def _copy(project: Path, files: Sequence[Path], copy: Path) -> Path:
    """Just the sources: an old build directory beside them could bring back what was deleted."""
    for path in files:
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(project / path, copy / path)
    return copy


def _check_whole(wheels: Iterable[Path], files: Iterable[Path]) -> None:
    """Nothing of the project was left out on the way."""
    held = {name for wheel in wheels for name in zipfile.ZipFile(wheel).namelist() if "zkp_network" in wheel.name}
    missing = sorted(str(path) for path in files if path.suffix == ".py" and str(path) not in held)
    if missing:
        raise BuildError(f"the wheel lacks {', '.join(missing[:3])}: correct tool.setuptools in pyproject.toml")


def _wheel(*what: str | Path, into: Path) -> None:
    _run(*_PIP, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", into, *what)


def _pinned(wheel: Path) -> str:
    """The line that lets pip install just this file."""
    name, version, *_ = wheel.name.split("-")
    return f"{name}=={version} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = "root"
    entry.mode = 0o644
    return entry


def _run(*command: str | Path) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()
        raise BuildError(f"pip failed: {reason[-1]}")


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 0 done, 1 failed, 2 used wrongly."""
    parser = argparse.ArgumentParser(description="Example: build_release.py .. .controller/releases")
    parser.add_argument("project", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--dry-run", action="store_true", help="only say which release it would be")
    given = parser.parse_args(arguments)
    try:
        document = tomllib.loads((given.project / "pyproject.toml").read_text("utf-8"))
        about, patterns = document["project"], document["tool"]["setuptools"]["packages"]["find"]["include"]
        files = sources(given.project, patterns)
        release = release_name(given.project, about["version"], files)
        archive = given.out / f"{release}.tar"
        changed = not archive.exists()
        if changed and not given.dry_run:
            build(given.project, given.out, release, about, files)
    except (BuildError, metadata.PackageNotFoundError, OSError, KeyError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    print(json.dumps({"changed": changed, "release": release, "archive": str(archive)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
