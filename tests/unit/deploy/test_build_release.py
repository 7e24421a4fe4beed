"""What goes into a release, and how it is named."""

from pathlib import Path

import pytest

from tests.unit.deploy.programs import program

builder = program("release", "build_release")
LOCK = """alpha==1.0 \\
    --hash=sha256:aa \\
    --hash=sha256:ab
beta-extra[binary]==2.0 \\
    --hash=sha256:bb
gamma==3.0 \\
    --hash=sha256:cc
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in {
        "pyproject.toml": "",
        "requirements.lock": LOCK,
        "coordinator/__init__.py": "",
        "coordinator/rpc/server.py": "",
        "coordinator/notes.md": "not in the wheel",
        "tests/test_it.py": "",
        "coordinator.egg-info/PKG-INFO.py": "",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return tmp_path


def test_sources(project: Path) -> None:
    """A release is made of the packages' sources and of what describes them, not of tests and leftovers."""
    names = [str(path) for path in builder.sources(project, ["coordinator*"])]
    assert names == ["coordinator/__init__.py", "coordinator/rpc/server.py", "pyproject.toml"]


def test_name_follows_the_sources(project: Path) -> None:
    """The same sources are the same release; any change is another."""
    files = builder.sources(project, ["coordinator*"])
    before = builder.release_name(project, "1.2.3", files)
    assert before.startswith("1.2.3-")
    assert builder.release_name(project, "1.2.3", files) == before
    (project / "coordinator/__init__.py").write_text("changed = True\n", "utf-8")
    assert builder.release_name(project, "1.2.3", files) != before


def test_name_follows_the_lock(project: Path) -> None:
    """Another version of a dependency is another release."""
    files = builder.sources(project, ["coordinator*"])
    before = builder.release_name(project, "1.2.3", files)
    (project / "requirements.lock").write_text(LOCK.replace("3.0", "3.1"), "utf-8")
    assert builder.release_name(project, "1.2.3", files) != before


def test_locked() -> None:
    """Only what is wanted is taken from the lock file, with all its hashes."""
    assert builder.locked(LOCK, {"alpha", "beta-extra"}) == LOCK.split("gamma", maxsplit=1)[0]


def test_not_locked() -> None:
    """A dependency that is not in the lock file is no matter of luck: the build is refused, with the cure."""
    with pytest.raises(builder.BuildError, match="lacks delta: run `make lock`"):
        builder.locked(LOCK, {"alpha", "delta"})


def test_closure() -> None:
    """Dependencies of dependencies are wanted too, and test tools are not."""
    names = builder.closure(["aiohttp"])
    assert {"aiohttp", "yarl", "multidict"} <= names
    assert "pytest" not in names


def test_killed_builds_leave_nothing_for_ever(tmp_path: Path) -> None:
    """What a killed build has left goes with the next one, archives stay."""
    out = tmp_path / "releases"
    (out / ".building-killed" / "wheels").mkdir(parents=True)
    (out / "1.0-abc.tar").touch()
    with builder.workplace(out) as place:
        assert place.parent == out
        (place / "draft").touch()
        assert not (out / ".building-killed").exists()
    assert sorted(path.name for path in out.iterdir()) == [".lock", "1.0-abc.tar"]


def test_pinned(tmp_path: Path) -> None:
    """A host installs exactly the file that was built."""
    wheel = tmp_path / "some_thing-1.0-py3-none-any.whl"
    wheel.write_bytes(b"")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert builder._pinned(wheel) == f"some_thing==1.0 --hash=sha256:{empty}\n"
