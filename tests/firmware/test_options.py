"""The command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from firmware.options import DEFAULT_BASE, OptionError, parse, with_parameter_file


@pytest.mark.feature("INST-003", "INST-030", "BASE-002", "BASE-003", "INST-035")
@pytest.mark.parametrize("name", ["--Base", "--base", "--BASE", "--CGateBase", "--cgatebase"])
def test_the_base_directory(name: str) -> None:
    options = parse([name, "/data", "--CGateApplication", "/app"])
    assert (options.base, options.application) == ("/data", "/app")
    assert parse([]).base == DEFAULT_BASE


@pytest.mark.feature("INST-037", "INST-038", "INST-039", "INST-041", "INST-042")
def test_options_without_effect_are_accepted_and_unknown_ones_are_not() -> None:
    options = parse(
        ["--ThreadsScope", "system", "--BatchLogon", "--SharedFiles", "--ClusterController", "--sharedBase", "/s"]
    )
    assert options.shared_base == "/s"
    for wrong in (
        ["--ThreadsScope", "fast"],
        ["--NoCatch"],
        ["--NoExceptions"],
        ["base"],
        ["--Base"],
        ["--PortOffset", "x"],
        ["--Base="],
    ):
        with pytest.raises(OptionError, match=r"option|expected|parameter"):
            parse(wrong)


def test_flags() -> None:
    options = parse(
        [
            "--LogToConsole",
            "--logall",
            "--NOWEBCACHE",
            "--daemon",
            "--noLockFile",
            "--dropRoot",
            "--PortOffset",
            "20000",
        ]
    )
    assert options.log_to_console
    assert options.log_all
    assert options.no_web_cache
    assert options.daemon
    assert options.no_lock_file
    assert options.drop_root
    assert options.port_offset == 20000


@pytest.mark.feature("INST-040", "INST-053")
def test_the_base_directory_may_hold_more_options(tmp_path: Path) -> None:
    (tmp_path / "Startup.options").write_text("--LogAll\n--PortOffset 10\n")
    options = with_parameter_file(["--Base", str(tmp_path), "--PortOffset", "20"])
    assert options.log_all
    assert options.port_offset == 20
    (tmp_path / "Startup.options").write_text("--Nonsense")
    with pytest.raises(OptionError, match=r"Startup\.options: unknown option --Nonsense"):
        with_parameter_file(["--Base", str(tmp_path)])
