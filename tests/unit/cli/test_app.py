"""The command line: exit statuses, one-line errors, help with an example."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.main import get_command

from zkp.cli import app, target
from zkp.cli.errors import UsageProblem
from zkp.localcluster import configuration
from zkp.localcluster.layout import ADMIN, CLIENT
from zkp.localcluster.profile import ClusterProfile


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment and a current directory without a cluster."""
    monkeypatch.chdir(tmp_path)
    for name in ("ZKP_COORDINATORS", "ZKP_IDENTITY", "ZKP_DATABASE_URL", "ZKP_A", "ZKP_B"):
        monkeypatch.delenv(name, raising=False)


def commands(command: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Return every command and group with its arguments."""
    yield path
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*path, name))


ALL_COMMANDS = list(commands(get_command(app.app)))


@pytest.mark.parametrize("path", ALL_COMMANDS, ids=" ".join)
def test_help_starts_with_an_example(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """The help of every command starts with an example of it."""
    assert app.run([*path, "--help"]) == 0

    body = capsys.readouterr().out.split("\n", 1)[1].strip()
    assert body.startswith("Example: ")
    assert f"zkp {' '.join(path)}".strip() in " ".join(body.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lst"], "No such command 'lst'"),
        (["submit"], "Missing command (see `zkp submit --help`)"),
        (["get"], "Missing argument 'ID'"),
        (["submit", "addition", "--count", "0"], "Invalid value for '--count'"),
        (["submit", "addition", "--a", "1"], "b: is missing"),
        (["submit", "range", "--value", "7", "--min", "8", "--max", "9"], "value: is below min"),
        (["submit", "addition", "--a", "1", "--b", "2"], "no cluster is given and none is in .zkp"),
        (["list", "--coordinators", "127.0.0.1:9090"], "--identity (or ZKP_IDENTITY): is missing"),
        (["list", "--identity", "."], "--coordinators (or ZKP_COORDINATORS): is missing"),
        (["list", "--coordinators", ",", "--identity", "."], "--coordinators: contains no address"),
        (["submit", "range", "--value", "7", "--min", "1", "--max", "9", "--task-id", "x"], "--task-id: needs"),
        (["submit", "merkle", "--leaves", "-", "--inputs", "-"], "--leaves and --inputs: both read standard input"),
        (["submit", "merkle", "--index", "0", "--no-heading"], "--heading and --no-heading: need --leaves"),
    ],
)
def test_wrong_use_is_one_line_and_status_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A usage error is one line on standard error that says what to do."""
    assert app.run(arguments) == 2

    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["verify", "proof.json", "--key", "key.json"], "key.json: cannot be read: No such file"),
        (["list", "--coordinators", "nonsense", "--identity", "."], "certificate.pem"),
        (["local", "status"], "no local cluster in .zkp"),
        (["local", "logs"], "no local cluster in .zkp"),
        (["circuits", "export", "addition", "--keys", "none"], "none/addition"),
    ],
)
def test_a_failure_is_one_line_and_status_1(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A failure is one line on standard error."""
    assert app.run(arguments) == 1

    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err


def test_private_values_are_in_no_error(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A rejected private value is not printed."""
    monkeypatch.setenv("ZKP_A", "998877665544332211998877665544332211")

    assert app.run(["submit", "addition", "--b", "1"]) == 2
    assert "99887766" not in capsys.readouterr().err


def test_an_interrupted_command_ends_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    """The exit status after SIGINT is 130."""

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("zkp.localcluster.cluster.LocalCluster.down", interrupt)

    assert app.run(["local", "down"]) == 130


def test_the_local_cluster_is_used_when_none_is_named(tmp_path: Path) -> None:
    """The profile of the local cluster provides the addresses, and the role selects the identity."""
    ClusterProfile(configuration.addresses(17000, 2)).save(tmp_path / "cluster.json")

    found = target.find_cluster(None, None, tmp_path, role=ADMIN)

    assert found.addresses == ("127.0.0.1:17011", "127.0.0.1:17012", "127.0.0.1:17013")
    assert found.identity == tmp_path / "identities" / "admin"


def test_a_named_cluster_goes_before_the_local_one(tmp_path: Path) -> None:
    """Options and environment take precedence; spaces around addresses are ignored."""
    ClusterProfile(configuration.addresses(17000, 2)).save(tmp_path / "cluster.json")

    found = target.find_cluster("a:1, b:2", tmp_path / "me", tmp_path, role=CLIENT)

    assert found == target.ClusterTarget(("a:1", "b:2"), tmp_path / "me")


def test_wrong_use_carries_its_status() -> None:
    """A usage error is an error of typer with exit status 2."""
    assert UsageProblem("no").exit_code == 2
    assert issubclass(UsageProblem, typer.TyperException)


def test_a_demo_touches_no_directory_of_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The demo deletes only the directory of an earlier demo."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work", encoding="utf-8")
    (tmp_path / "list.csv").write_text("\n".join(str(entry) for entry in range(1, 30)), encoding="utf-8")

    assert app.run(["local", "demo", "--dir", "mine", "--leaves", "list.csv"]) == 2
    assert "contains something other than a demo" in capsys.readouterr().err
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_a_demo_needs_a_list_long_enough(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A list that is too short is rejected before anything starts."""
    (tmp_path / "list.csv").write_text("1\n2\n", encoding="utf-8")

    assert app.run(["local", "demo", "--leaves", "list.csv"]) == 2
    assert "has 2 entries" in capsys.readouterr().err
    assert not (tmp_path / ".zkp-demo").exists()


def test_listing_keys_of_an_empty_directory_is_an_empty_list(capsys: pytest.CaptureFixture[str]) -> None:
    """A directory without keys is not an error."""
    assert app.run(["circuits", "list", "--keys", "none", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
