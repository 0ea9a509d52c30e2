"""The record of what the tests prove, made by tests/conftest.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

SAMPLE = """
import pytest

@pytest.fixture
def broken():
    raise RuntimeError("no set-up")

@pytest.fixture
def leaves_a_mess():
    yield
    raise RuntimeError("no tear-down")

@pytest.mark.feature("A-1", "A-2")
def test_good():
    pass

@pytest.mark.feature("A-2")
def test_bad():
    assert False

@pytest.mark.feature("A-3")
def test_skipped():
    pytest.skip("no program")

@pytest.mark.feature("A-4")
def test_error_in_set_up(broken):
    pass

@pytest.mark.feature("A-5")
@pytest.mark.xfail(reason="not yet")
def test_expected_failure():
    assert False

@pytest.mark.feature("A-6")
class TestRoom:
    @pytest.mark.feature("A-7")
    @pytest.mark.parametrize("n", [1, 2, 3])
    def test_each(self, n):
        assert n != 2

@pytest.mark.feature("A-8")
def test_error_in_tear_down(leaves_a_mess):
    pass

@pytest.mark.feature("A-9")
@pytest.mark.xfail(reason="not yet")
def test_unexpected_success():
    pass

def test_claims_nothing():
    pass
"""

EXPECTED = {
    "A-1": {"passed": 1, "failed": 0, "skipped": 0},
    "A-2": {"passed": 1, "failed": 1, "skipped": 0},
    "A-3": {"passed": 0, "failed": 0, "skipped": 1},
    "A-4": {"passed": 0, "failed": 1, "skipped": 0},
    "A-5": {"passed": 0, "failed": 1, "skipped": 0},
    "A-6": {"passed": 2, "failed": 1, "skipped": 0},
    "A-7": {"passed": 2, "failed": 1, "skipped": 0},
    "A-8": {"passed": 0, "failed": 1, "skipped": 0},
    "A-9": {"passed": 0, "failed": 1, "skipped": 0},
}


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """A project of its own with this project's conftest."""
    pytester.makeconftest((Path(__file__).parent.parent / "conftest.py").read_text(encoding="utf-8"))
    pytester.makepyfile(test_sample=SAMPLE)
    return pytester


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["one process", "workers"])
def test_each_outcome_is_counted_once(project: pytest.Pytester, workers: list[str]) -> None:
    project.runpytest_subprocess(*workers)
    assert json.loads((project.path / ".features.json").read_text()) == EXPECTED


def test_a_part_of_the_tests_leaves_the_record_alone(project: pytest.Pytester) -> None:
    for part in (["test_sample.py"], ["-k", "good"], ["--collect-only"]):
        project.runpytest_subprocess(*part)
        assert not (project.path / ".features.json").exists()


def test_a_part_is_recorded_where_asked(project: pytest.Pytester) -> None:
    project.runpytest_subprocess("-k", "good", "--features", "mine.json")
    counts = {"passed": 1, "failed": 0, "skipped": 0}
    assert json.loads((project.path / "mine.json").read_text()) == {"A-1": counts, "A-2": counts}


def test_slow_tests_start_first(project: pytest.Pytester) -> None:
    project.makepyfile(
        test_sample="import pytest\ndef test_a(): pass\n@pytest.mark.slow\ndef test_b(): pass\ndef test_c(): pass\n"
    )
    result = project.runpytest_subprocess("-v")
    result.stdout.fnmatch_lines(["*::test_b PASSED*", "*::test_a PASSED*", "*::test_c PASSED*"])
