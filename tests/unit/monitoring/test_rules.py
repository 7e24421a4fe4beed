"""Alerts, their runbooks and their tests say the same; promtool itself runs in `make check`."""

import re

import yaml

from tests.unit.monitoring import shipped

_ALERTS = {alert.name for alert in shipped.alerts()}


def test_every_alert_tells_its_reader_what_and_where() -> None:
    """A severity that is routed, a summary, a description, and the address of a page that is there."""
    for alert in shipped.alerts():
        assert alert.severity in {"critical", "warning"}, alert.name
        assert alert.annotations.keys() == {"summary", "description", "runbook_url"}, alert.name
        assert all(text.strip() for text in alert.annotations.values()), alert.name
        assert alert.annotations["runbook_url"] == f"{{{{ $externalLabels.runbooks }}}}/{alert.name}.md"


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    """One page an alert: what it means, how to see it, what to do."""
    pages = {page.stem: page.read_text(encoding="utf-8") for page in shipped.RUNBOOKS.glob("*.md")}
    index = pages.pop("README")
    assert pages.keys() == _ALERTS
    assert set(re.findall(r"\((\w+)\.md\)", index)) == _ALERTS
    for name, text in pages.items():
        assert text.startswith(f"# {name}\n\n"), name
        assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["How to see it", "What to do"], name
        assert set(re.findall(r"\((\w+)\.md\)", text)) <= _ALERTS, name


def test_runbooks_name_metrics_that_exist() -> None:
    """Whoever is woken at night types what the page says."""
    for page in shipped.RUNBOOKS.glob("*.md"):
        asked = re.findall(r"`([^`]*(?:zkp|process)_[^`]*)`", page.read_text(encoding="utf-8"))
        named = {name for text in asked for name in shipped.names(text)}
        assert named <= shipped.exported() | shipped.records().keys(), page.name


def test_every_alert_has_a_firing_and_a_silent_case() -> None:
    """In each of its severities."""
    firing, silent = set(), set()
    for _, file in shipped.documents("prometheus/tests"):
        for test in file["tests"]:
            for case in test["alert_rule_test"]:
                expected = {one["exp_labels"]["severity"] for one in case["exp_alerts"]}
                firing |= {(case["alertname"], severity) for severity in expected}
                silent |= {(case["alertname"], severity) for severity in {"critical", "warning"} - expected}
    wanted = {(alert.name, alert.severity) for alert in shipped.alerts()}
    assert firing == wanted
    assert wanted <= silent


def test_rules_ask_for_what_is_exported_or_recorded() -> None:
    """A rule over a name that nobody exports never fires, and nobody notices."""
    known = shipped.exported() | shipped.records().keys()
    for alert in shipped.alerts():
        assert shipped.names(alert.expr) <= known, alert.name
    for record, recorded in shipped.records().items():
        for expression in recorded:
            assert shipped.names(expression) <= known - {record}, record


def test_the_address_of_the_runbooks_is_one_setting() -> None:
    """Of the inventory. Where nothing is set, alerts and dashboards name the checkout's own folder."""
    shared = yaml.safe_load(
        (shipped.ROOT / "ansible/inventories/shared-infrastructure.yml").read_text(encoding="utf-8")
    )
    config = yaml.safe_load((shipped.MONITORING / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    base = config["global"]["external_labels"]["runbooks"]
    assert shipped.ROOT / base == shipped.RUNBOOKS
    assert shared["all"]["vars"]["zkp_runbooks"] == base
    for alert in shipped.alerts():
        page = alert.annotations["runbook_url"].replace("{{ $externalLabels.runbooks }}", base)
        assert (shipped.ROOT / page).is_file(), alert.name
    for name, dashboard in shipped.dashboards().items():
        (variable,) = (one for one in dashboard["templating"]["list"] if one["name"] == "runbooks")
        assert (variable["type"], variable["query"]) == ("constant", base), name


def test_routes_are_tested_for_every_alert() -> None:
    """Critical ones wake somebody, in each severity that the rules give."""
    path = shipped.MONITORING / "alertmanager" / "tests" / "routes.txt"
    routes = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    receivers = {"critical": "pager", "warning": "duty"}
    wanted = {(alert.name, alert.severity) for alert in shipped.alerts()}
    assert sorted(routes) == sorted(
        f"{receivers[severity]} alertname={name} severity={severity}" for name, severity in wanted
    )


def test_inhibitions_name_alerts_that_exist() -> None:
    """A name that was changed in the rules alone would silence nothing, or for ever."""
    path = shipped.MONITORING / "alertmanager" / "alertmanager.yml"
    rules = yaml.safe_load(path.read_text(encoding="utf-8"))["inhibit_rules"]
    matchers = [matcher for rule in rules for side in ("source", "target") for matcher in rule[f"{side}_matchers"]]
    named = [re.fullmatch(r"alertname =~? \"?([\w|]+)\"?", matcher) for matcher in matchers]
    found = {name for match in named if match for name in match[1].split("|")}
    assert found
    assert found <= _ALERTS


def test_every_kind_of_daemon_is_scraped_with_a_certificate() -> None:
    """No job falls back to plain HTTP, and none takes a server for what it says it is."""
    path = shipped.MONITORING / "prometheus" / "prometheus.yml"
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    assert {"coordinator", "worker", "gateway"} <= jobs.keys()
    for job in [*jobs.values(), *config["alerting"]["alertmanagers"]]:
        assert job["scheme"] == "https"
        assert job["tls_config"].keys() == {"ca_file", "cert_file", "key_file", "min_version"}
