"""File, environment and rules together: which value wins, and the one line for everything that is wrong."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from pydantic import Field, SecretStr

from zkp.daemon.settings import (
    AnchoredPath,
    Count,
    Duration,
    LoadedSettings,
    Section,
    SettingFault,
    SettingsError,
    load,
    read,
)


class Database(Section):
    """A section with a secret."""

    host: str = Field(default="localhost", description="the server", examples=["db.example"])
    max_open_conns: Count = Field(default=4, description="connections", examples=["8"])
    password: SecretStr | None = None


class Peer(Section):
    """An item of a list."""

    id: str
    port: Count = 1


class Cluster(Section):
    """A section with a list and a rule."""

    peers: tuple[Peer, ...] = ()
    timeout: Duration = 1.0
    heartbeat: Duration = 0.1

    def rules(self) -> Iterator[SettingFault]:
        if self.heartbeat > self.timeout:
            yield SettingFault("heartbeat", "is above {timeout}", "lower it")
        if any(peer.id == "broken" for peer in self.peers):
            yield SettingFault("peers.0.id", "is broken", "mend it")


class Settings(Section):
    """A small daemon."""

    name: str = Field(examples=["node-1"])
    keys: AnchoredPath | None = None
    database: Database = Database()
    raft: Cluster = Cluster()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the configuration lies."""
    return tmp_path / "node.yaml"


def loaded(path: Path, text: str, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of a text and an environment."""
    path.write_text(text)
    return load(Settings, path, "NODE", environ or {}, {"SHARED_HOST": "database.host"})


def refusal(path: Path, text: str, environ: Mapping[str, str] | None = None) -> SettingsError:
    """The error of a text and an environment; always one line."""
    with pytest.raises(SettingsError) as caught:
        loaded(path, text, environ)
    assert "\n" not in str(caught.value)
    return caught.value


def test_the_environment_goes_before_the_file(path: Path) -> None:
    """A variable overrides its key, the file the default; other programs' variables are not looked at."""
    text = "name: a\ndatabase: {host: file.example, max_open_conns: 5}\n"
    environ = {"NODE_DATABASE_MAX_OPEN_CONNS": "25", "OTHER_DATABASE_HOST": "x", "NODENAME": "x"}
    settings = loaded(path, text, environ)
    assert settings.database.host == "file.example"
    assert settings.database.max_open_conns == 25
    assert settings.raft.timeout == 1.0


def test_the_environment_reaches_sections_that_the_file_has_not(path: Path) -> None:
    """A variable sets a key in a section that is missing from the file, or whose keys are commented out."""
    environ = {"NODE_DATABASE_HOST": "env.example"}
    assert loaded(path, "name: a\n", environ).database.host == "env.example"
    assert loaded(path, "name: a\ndatabase:\n  # host: x\n", environ).database.host == "env.example"


def test_a_shared_variable_gives_way_to_the_daemons_own(path: Path) -> None:
    """An alias overrides the file, and the variable with the prefix overrides the alias."""
    text = "name: a\ndatabase: {host: file.example}\n"
    assert loaded(path, text, {"SHARED_HOST": "shared.example"}).database.host == "shared.example"
    both = {"SHARED_HOST": "shared.example", "NODE_DATABASE_HOST": "own.example"}
    assert loaded(path, text, both).database.host == "own.example"


def test_lists_come_from_the_environment_as_yaml_or_json(path: Path) -> None:
    """A list is written as YAML or as JSON; text that is neither is refused by the variable's name."""
    for text in ("[{id: a}, {id: b, port: 2}]", '[{"id": "a"}, {"id": "b", "port": 2}]'):
        peers = loaded(path, "name: a\n", {"NODE_RAFT_PEERS": text}).raft.peers
        assert [(peer.id, peer.port) for peer in peers] == [("a", 1), ("b", 2)]
    assert str(refusal(path, "name: a\n", {"NODE_RAFT_PEERS": "[{"})).startswith(
        "environment: NODE_RAFT_PEERS: is not valid YAML; "
    )


def test_text_from_the_environment_is_taken_as_it_is(path: Path) -> None:
    """A password in a variable may hold anything: it is neither YAML nor expanded."""
    secret = "${HOME} $$ 'x': [#"
    password = loaded(path, "name: a\n", {"NODE_DATABASE_PASSWORD": secret}).database.password
    assert password is not None
    assert password.get_secret_value() == secret


def test_variables_inside_the_file(path: Path) -> None:
    """${NAME} becomes the variable, in lists as well; $$ is a dollar sign; a lone dollar sign stays one."""
    text = "name: ${ROLE}-$${X}-$1$\nraft: {peers: [{id: '${ROLE}'}]}\ndatabase: {password: '${PW}'}\n"
    settings = loaded(path, text, {"ROLE": "node", "PW": "a: [b"})
    assert settings.name == "node-${X}-$1$"
    assert settings.raft.peers[0].id == "node"
    assert settings.database.password == SecretStr("a: [b")


def test_a_variable_that_is_not_set_is_an_error(path: Path) -> None:
    """The refusal names line, key and variable; so does that of a brace that names nothing."""
    missing = refusal(path, "name: a\ndatabase:\n  password: ${DB_PASSWORD}\n")
    assert str(missing) == (
        f"{path}:3: database.password: ${{DB_PASSWORD}} is not set in the environment; "
        "set DB_PASSWORD, or write $$ for a dollar sign"
    )
    replaced = {"NODE_DATABASE_PASSWORD": "x"}
    assert loaded(path, "name: a\ndatabase: {password: '${DB_PASSWORD}'}\n", replaced).database.password
    assert f"{path}:1: name: has a '${{' without a variable name" in str(refusal(path, "name: ${a b}\n"))


def test_an_unknown_key_is_an_error_with_the_nearest_known(path: Path) -> None:
    """A misspelt key, a key in the wrong section and one like no other each get their own cure."""
    assert str(refusal(path, "name: a\ndatabase:\n  max_open_conn: 1\n")) == (
        f"{path}:3: database.max_open_conn: unknown key; did you mean database.max_open_conns?"
    )
    assert str(refusal(path, "name: a\ntimeout: 1s\n")) == (
        f"{path}:2: timeout: unknown key; did you mean raft.timeout?"
    )
    assert str(refusal(path, "name: a\nraft: {peers: [{id: a, zzzzzz: 1}]}\n")) == (
        f"{path}:2: raft.peers[0].zzzzzz: unknown key; remove it; known keys: id, port"
    )
    assert "nonsense: unknown key" in str(refusal(path, "name: a\nnonsense:\n"))


def test_an_unknown_variable_is_an_error_with_the_nearest_known(path: Path) -> None:
    """A misspelt variable with the daemon's prefix is refused; one like no other is told how names look."""
    assert str(refusal(path, "name: a\n", {"NODE_DATABASE_HOSTS": "x"})) == (
        "environment: NODE_DATABASE_HOSTS: unknown variable; did you mean NODE_DATABASE_HOST?"
    )
    assert str(refusal(path, "name: a\n", {"NODE_Q": "x"})) == (
        "environment: NODE_Q: unknown variable; remove it, or use one such as NODE_NAME"
    )


def test_a_misspelt_key_is_told_before_what_it_leaves_missing(path: Path) -> None:
    """Both are wrong; the first line is the one that explains the other."""
    error = refusal(path, "nam: a\n")
    assert str(error) == f"{path}:1: nam: unknown key; did you mean name? (1 more after this one)"
    assert str(error.problems[1]) == f"{path}: name: is missing; add it, or set NODE_NAME, such as node-1"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: 7\n", ":1: name: must be text, in quotes if it looks like a number; give for example node-1"),
        ("name: a\ndatabase: 5\n", ":2: database: must be a section: keys below it, indented"),
        ("name: a\nraft: {peers: 5}\n", ":2: raft.peers: must be a list"),
        ("name: a\ndatabase:\n  max_open_conns: -1\n", ":3: database.max_open_conns: must be at least 0"),
        ("name: a\nraft: {timeout: soon}\n", ":2: raft.timeout: is not a number with a known unit; write a"),
        ("name: a\nraft: {peers: [{}]}\n", ":2: raft.peers[0].id: is missing; add it"),
    ],
)
def test_a_wrong_kind_is_named_with_line_and_key(path: Path, text: str, said: str) -> None:
    """What does not fit the schema is refused where it stands."""
    assert f"{path}{said}" in str(refusal(path, text))


def test_rules_point_at_the_key_they_are_about(path: Path) -> None:
    """A rule over several keys names one of them, with its line, whatever braces its words hold."""
    text = "name: a\nraft:\n  timeout: 1s\n  heartbeat: 2s\n  peers:\n    - id: broken\n"
    error = refusal(path, text)
    assert [str(problem) for problem in error.problems] == [
        f"{path}:4: raft.heartbeat: is above {{timeout}}; lower it",
        f"{path}:6: raft.peers[0].id: is broken; mend it",
    ]


def test_a_wrong_variable_is_named_beside_its_key(path: Path) -> None:
    """When the environment set the value, the line of the file is not blamed."""
    error = refusal(path, "name: a\nraft: {heartbeat: 1s}\n", {"NODE_RAFT_HEARTBEAT": "2s"})
    assert str(error) == (f"{path}: raft.heartbeat (set by NODE_RAFT_HEARTBEAT): is above {{timeout}}; lower it")
    items = refusal(path, "name: a\n", {"NODE_RAFT_PEERS": "[{port: 1}]"})
    assert str(items) == f"{path}: raft.peers[0].id (set by NODE_RAFT_PEERS): is missing; add it"


def test_faults_found_later_are_placed_as_well(path: Path) -> None:
    """Checks that look at files come after loading, and name file, line and key all the same."""
    path.write_text("name: a\nkeys: k\n")
    found: LoadedSettings[Settings] = read(Settings, path, "NODE", {})
    assert found.require([]) is found.settings
    with pytest.raises(SettingsError) as caught:
        found.require(iter([SettingFault("keys", "does not exist", "create it")]))
    assert str(caught.value) == f"{path}:2: keys: does not exist; create it"


def test_settings_are_frozen_and_paths_absolute(path: Path) -> None:
    """Nothing changes after loading; a relative path lies beside the file, also when a variable gave it."""
    settings = loaded(path, "name: a\nkeys: k\n")
    assert settings.keys == path.parent / "k"
    assert loaded(path, "name: a\n", {"NODE_KEYS": "other"}).keys == path.parent / "other"
    with pytest.raises(ValueError, match="frozen"):
        settings.name = "b"  # type: ignore[misc]  # the point of the test


def test_a_secret_appears_nowhere(path: Path) -> None:
    """Not in a repr, and not in an error about it or beside it."""
    environ = {"PW": "hunter2", "NODE_DATABASE_MAX_OPEN_CONNS": "hunter2"}
    text = "name: [hunter2]\nkeys: 5\ndatabase: {password: '${PW}', host: {a: hunter2}}\n"
    error = refusal(path, text, environ)
    assert len(error.problems) == 4
    assert not any("hunter2" in str(problem) for problem in error.problems)
    assert error.__cause__ is None
    assert "hunter2" not in repr(loaded(path, "name: a\ndatabase: {password: '${PW}'}\n", {"PW": "hunter2"}))
