"""What all tests share: the markers, and the record of what they prove.

A test says with `@pytest.mark.feature("SMTP-012")` which promises it proves. After a run of everything the counts
stand in `.features.json` in the project's root: {id: {"passed": n, "failed": n, "skipped": n}}. A run of a part of the
tests leaves that file alone, because it would say less than is known; `--features FILE` writes the counts of any run.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest

PROPERTY = "features"
KINDS = ("passed", "failed", "skipped")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--features", metavar="FILE", help="write the counts for each feature id to FILE, for any run")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "feature(*ids): the promises that this test proves, each by its id")
    config.addinivalue_line("markers", "slow: takes more than ten seconds; started before the others")
    if not hasattr(config, "workerinput"):  # a worker's reports reach the controller, which keeps the one record
        config.pluginmanager.register(FeatureRecord(config))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        ids = sorted({name for mark in item.iter_markers("feature") for name in mark.args})
        if ids:
            item.user_properties.append((PROPERTY, ids))
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


class FeatureRecord:
    """Counts each test once for each id that it claims, by the worst of its set-up, call and tear-down.

    A test that is expected to fail counts as failed: it says itself that the feature does not work yet.
    """

    def __init__(self, config: pytest.Config) -> None:
        self.path = record_path(config)
        self.outcomes: dict[str, tuple[tuple[str, ...], str]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        ids = claimed(report.user_properties)
        if not ids:
            return
        outcome = "failed" if hasattr(report, "wasxfail") else report.outcome
        if outcome == "passed" and report.when != "call":
            return
        _, before = self.outcomes.get(report.nodeid, (ids, "passed"))
        worst = "failed" if "failed" in (before, outcome) else "skipped" if "skipped" in (before, outcome) else "passed"
        self.outcomes[report.nodeid] = (ids, worst)

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        if self.path is None or exitstatus in (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.USAGE_ERROR):
            return
        counts: dict[str, dict[str, int]] = {}
        for ids, outcome in self.outcomes.values():
            for name in ids:
                counts.setdefault(name, dict.fromkeys(KINDS, 0))[outcome] += 1
        self.path.write_text(json.dumps(counts, indent=1, sort_keys=True) + "\n", encoding="ascii")


def claimed(properties: Iterable[tuple[str, object]]) -> tuple[str, ...]:
    """The feature ids in a report's properties, which are what a worker sends with it."""
    return tuple(
        str(name) for key, value in properties if key == PROPERTY and isinstance(value, list) for name in value
    )


def record_path(config: pytest.Config) -> Path | None:
    """Where this run's counts go; None when it is a run of a part."""
    if config.option.features:
        return Path(config.option.features)
    option = config.option
    part = option.keyword or option.markexpr or getattr(option, "lf", False) or option.deselect or option.collectonly
    if part or config.args_source is pytest.Config.ArgsSource.ARGS:
        return None
    return config.rootpath / ".features.json"
