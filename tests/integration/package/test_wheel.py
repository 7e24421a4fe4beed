"""The wheel: what it installs, what it asks for, and what it says when an extra is missing."""

import email.message
import email.parser
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[3]
PACKAGES = {"coordinator", "gateway", "pki", "worker", "zkp"}
SERVER_LIBRARIES = {"pysyncobj", "psycopg", "aiohttp", "uvloop", "prometheus-client", "google-crc32c", "groth16py"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project, built from a copy of its sources."""
    place = tmp_path_factory.mktemp("wheel")
    source = place / "source"
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(place), "."]
    subprocess.run(command, cwd=source, check=True)
    (made,) = place.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's files in a directory of their own."""
    place = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place)
    return place


@pytest.fixture(scope="module")
def metadata(installed: Path) -> email.message.Message:
    """The wheel's metadata."""
    (file,) = installed.glob("*.dist-info/METADATA")
    return email.parser.Parser().parsestr(file.read_text(encoding="utf-8"))


def test_it_installs_five_import_packages(installed: Path) -> None:
    """No generic name that other software could use as well."""
    names = {path.name for path in installed.iterdir() if path.suffix != ".dist-info"}
    assert names == PACKAGES
    assert all((installed / name / "py.typed").is_file() for name in PACKAGES)


def test_the_base_is_the_client(metadata: email.message.Message) -> None:
    """The libraries of the daemons and the prover come with extras only."""
    requirements = [Requirement(text) for text in metadata.get_all("Requires-Dist", [])]
    base = {one.name for one in requirements if one.marker is None}
    assert not base & SERVER_LIBRARIES
    assert {one.name for one in requirements} >= SERVER_LIBRARIES
    assert {"coordinator", "worker", "gateway", "pki", "prover", "local", "all"} <= set(
        metadata.get_all("Provides-Extra", [])
    )


def without(library: str, directory: Path) -> dict[str, str]:
    """Return an environment in which the library is not installed."""
    directory.mkdir(exist_ok=True)
    (directory / "sitecustomize.py").write_text(
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] == {library!r}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Missing())\n"
    )
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(directory), str(ROOT)])}


@pytest.mark.parametrize(
    ("command", "library", "extra"),
    [
        ("coordinator", "pysyncobj", "coordinator"),
        ("coordinator", "psycopg", "coordinator"),
        ("worker", "aiohttp", "worker"),
        ("gateway", "prometheus_client", "gateway"),
    ],
)
def test_a_missing_extra_is_one_line(command: str, library: str, extra: str, tmp_path: Path) -> None:
    """It names the library and what to install."""
    done = subprocess.run(
        [sys.executable, "-m", command, "--version"],
        check=False,
        env=without(library, tmp_path / "without"),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr == (
        f"error: zkp-{command}: the library {library} is not installed; run: pip install 'zkp-network[{extra}]'\n"
    )


@pytest.mark.parametrize("library", ["pysyncobj", "psycopg", "aiohttp", "uvloop", "prometheus_client", "groth16py"])
def test_the_command_line_needs_no_extra(library: str, tmp_path: Path) -> None:
    """`zkp` and the client library load where only the base is installed."""
    environment = without(library, tmp_path / "without")
    command = [sys.executable, "-m", "zkp.cli", "--version"]
    done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("zkp ")


@pytest.mark.parametrize("command", ["coordinator", "worker", "gateway", "pki", "zkp.cli"])
def test_every_command_states_its_version(command: str) -> None:
    """That of the distribution."""
    done = subprocess.run(
        [sys.executable, "-m", command, "--version"], check=False, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1][0].isdigit()
