"""build/make.py: the two commands that a newcomer types, and the rule that build/ and packaging/ are never imported."""

from __future__ import annotations

import ast
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def make(tmp_path: Path) -> ModuleType:
    """The tool as a module, with its folders moved to a place of the test."""
    spec = importlib.util.spec_from_file_location("make_under_test", ROOT / "build" / "make.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.__dict__.update(ROOT=tmp_path, ENVIRONMENT=tmp_path / ".venv", STAMP=tmp_path / ".venv" / ".made-from")
    module.__dict__.update(SCRIPTS=tmp_path / ".venv" / "bin", PYTHON=tmp_path / ".venv" / "bin" / "python")
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    return module


@pytest.fixture
def calls(make: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The programs that the tool starts, instead of starting them."""
    started: list[list[str]] = []

    def start(command: list[object], **_: object) -> int:
        started.append([str(word) for word in command])
        return 0

    def create(folder: Path, **_: object) -> None:
        started.append(["venv"])
        (folder / "bin").mkdir(parents=True)
        (folder / "bin" / "python").touch()

    monkeypatch.setattr(make.subprocess, "call", start)
    monkeypatch.setattr(make, "become", start)
    monkeypatch.setattr(make.venv, "create", create)
    return started


def test_the_environment_is_made_once_and_again_after_a_change(make: ModuleType, calls: list[list[str]]) -> None:
    make.prepare()
    assert [Path(call[0]).name for call in calls] == ["venv", "python"]
    assert calls[1][1:4] == ["-m", "pip", "install"] and calls[1][-1].endswith("[dev]")
    calls.clear()
    make.prepare()
    assert calls == []
    (make.ROOT / "pyproject.toml").write_text('[project]\ndependencies = ["trio"]\n')
    make.prepare()
    assert [Path(call[0]).name for call in calls] == ["python"], "the environment is kept, its packages are brought up"


def test_a_failed_installation_is_tried_again(
    make: ModuleType, calls: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(make.subprocess, "call", lambda command, **_: 1)
    with pytest.raises(SystemExit):
        make.prepare()
    monkeypatch.undo()
    assert not make.STAMP.exists()


def test_run_without_options_uses_a_base_directory_of_the_project(make: ModuleType, calls: list[list[str]]) -> None:
    make.run([])
    make.run(["--LogToConsole"])
    make.run(["--base", "/somewhere"])
    make.run(["--CGateBase", "/somewhere"])
    own = ["--Base", str(make.ROOT / "pillarbox-data")]
    given = [call[1:] for call in calls]
    assert given == [own, [*own, "--LogToConsole"], ["--base", "/somewhere"], ["--CGateBase", "/somewhere"]]


def test_test_with_options_is_pytest_with_those_options(make: ModuleType, calls: list[list[str]]) -> None:
    make.test(["tests/smtp", "-x"])
    assert [call[1:] for call in calls] == [["-m", "pytest", "tests/smtp", "-x"]]


def test_test_runs_every_check_and_the_tests_and_fails_if_one_failed(
    make: ModuleType, calls: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(command: list[object], **_: object) -> int:
        calls.append([Path(str(command[0])).name, *map(str, command[1:])])
        return 1 if calls[-1][0] == "mypy" else 0

    monkeypatch.setattr(make.subprocess, "call", start)
    assert make.test([]) == 1
    assert [call[:2] for call in calls[:4]] == [["ruff", "check"], ["ruff", "format"], ["mypy"], ["lint-imports"]]
    assert calls[4][:3] == ["python", "-m", "pytest"]


def test_an_unknown_command_says_how_it_is_called() -> None:
    answer = subprocess.run([sys.executable, ROOT / "build" / "make.py", "fly"], capture_output=True, text=True)
    assert answer.returncode == 2
    assert "make.py run" in answer.stderr and "make.py test" in answer.stderr


def test_the_tool_needs_only_the_standard_library() -> None:
    command = [sys.executable, "-I", "-S", str(ROOT / "build" / "make.py"), "--help"]
    answer = subprocess.run(command, capture_output=True, text=True, env={"PATH": os.environ["PATH"]})
    assert answer.returncode == 0, answer.stderr
    assert set(imported(ROOT / "build" / "make.py")) <= sys.stdlib_module_names | {"__future__"}


def imported(path: Path) -> Iterator[str]:
    """The top-level names that a Python file imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name.partition(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module is not None:
            yield node.module.partition(".")[0]


def test_build_and_packaging_are_folders_of_scripts() -> None:
    for folder in ("build", "packaging"):
        assert not list((ROOT / folder).rglob("__init__.py"))
    for folder in ("appliance", "firmware", "webadmin", "tests", "build", "packaging"):
        for path in (ROOT / folder).rglob("*.py"):
            assert not {"build", "packaging"} & set(imported(path)), path


def test_the_wheel_holds_the_server_and_nothing_else() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == ["appliance", "firmware", "webadmin"]
