"""The measuring itself: clients that compile cleanly, a corpus that is what it says, ratios that point the right way."""

from __future__ import annotations

import email
import email.policy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench import clients, corpus, main
from tests.bench.measures import Figures


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
@pytest.mark.parametrize("name", ["smtpload", "relayload", "mailload", "slowsync"])
def test_the_clients_compile_without_a_warning(name: str, tmp_path: Path) -> None:
    source = str(clients.SOURCE / f"{name}.c")
    command = ["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-c", "-o", str(tmp_path / name), source]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_corpus_is_the_same_at_every_run_and_parses(tmp_path: Path) -> None:
    for name in ("one", "two"):
        corpus.write(tmp_path / name, 9, 10240)
    data = (tmp_path / "one").read_bytes()
    assert data == (tmp_path / "two").read_bytes()
    kinds = []
    while data:
        size, _, data = data.partition(b"\n")
        content, data = data[: int(size)], data[int(size) :]
        assert 8000 < len(content) < 13000
        assert b"\n" not in content.replace(b"\r\n", b"")
        letter = email.message_from_bytes(content, policy=email.policy.SMTP)
        assert not letter.defects and letter["Message-ID"]
        kinds.append(letter.get_content_type())
    assert kinds == ["text/plain", "multipart/alternative", "multipart/mixed"] * 3


def test_a_ratio_above_one_says_that_we_are_better() -> None:
    assert main.ratio_of("msg/s", 200, 100) == 2
    assert main.ratio_of("ms", 5, 10) == 2
    assert main.ratio_of("MiB", 50, None) is None


def test_the_table_has_medians_and_the_ratio() -> None:
    figures = Figures()
    for ours, theirs in ((90.0, 40.0), (100.0, 50.0), (900.0, 60.0)):
        figures.add("log-ins", "/s", "Pillarbox", ours)
        figures.add("log-ins", "/s", "Postfix+Dovecot", theirs)
    row = next(line for line in main.table(figures).splitlines() if line.startswith("log-ins"))
    assert row.split() == ["log-ins,", "/s", "100.0", "50.0", "2.00"]


def test_it_starts_as_the_tool_starts_it() -> None:
    """By its path: then its folder comes first where Python looks for modules, and no file there may hide one of Python's."""
    done = subprocess.run([sys.executable, main.__file__, "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Postfix" in done.stdout
