"""The base directory: tree, format, lock."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from firmware.base import DIRECTORIES, BaseError, Lock, prepare


@pytest.mark.feature("INST-004", "INST-005", "BASE-004", "INST-006", "BASE-005", "BASE-008")
def test_the_tree_is_made_and_links_are_kept(tmp_path: Path) -> None:
    base, elsewhere = tmp_path / "a/b", tmp_path / "elsewhere"
    elsewhere.mkdir()
    base.mkdir(parents=True)
    (base / "Queue").symlink_to(elsewhere)
    prepare(str(base))
    for name in ("Settings", "Queue", "BadFiles", "Accounts", "Domains", "Submitted", "SystemLogs", "Directory"):
        assert (base / name).is_dir()
    assert (base / "Queue").is_symlink()
    assert all((base / name).stat().st_mode & 0o007 == 0 for name in DIRECTORIES if name != "Queue")
    prepare(str(base))


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    prepare(str(tmp_path))
    (tmp_path / "Settings/Format.settings").write_text("{Format=99;}")
    with pytest.raises(BaseError, match="newer version"):
        prepare(str(tmp_path))


@pytest.mark.feature("INST-008", "BASE-026")
def test_a_second_server_is_refused_and_a_dead_one_is_not(tmp_path: Path) -> None:
    (tmp_path / "ProcessID").write_text("99999\n")
    lock = Lock(str(tmp_path))
    assert (tmp_path / "ProcessID").read_text() == f"{os.getpid()}\n"
    with pytest.raises(BaseError, match=f"process {os.getpid()}"):
        Lock(str(tmp_path))
    lock.release()
    assert not (tmp_path / "ProcessID").exists()
    Lock(str(tmp_path)).release()


def test_a_base_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BaseError, match="file"):
        prepare(str(tmp_path / "file/base"))


@pytest.mark.feature("PIPE-020")
@pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs root, setpriv"
)
def test_only_members_of_the_group_put_files_into_submitted() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        os.chmod(place, 0o755)
        base = os.path.join(place, "base")
        prepare(base)

        def act(group: str, script: str) -> int:
            words = ["setpriv", "--reuid=nobody", f"--regid={group}", "--clear-groups", "sh", "-c", script]
            return subprocess.run(words, cwd=place, capture_output=True, timeout=20).returncode

        folder = os.path.join(base, "Submitted")
        assert act("mail", f"umask 007; echo x > {folder}/a.tmp && mv {folder}/a.tmp {folder}/a.sub") == 0
        assert os.stat(os.path.join(folder, "a.sub")).st_mode & 0o777 == 0o660
        assert act("nogroup", f"echo x > {folder}/b.sub") != 0
        with open(os.path.join(folder, "c.sub"), "w") as ours:
            ours.write("x")
        assert act("mail", f"rm -f {folder}/c.sub") != 0 and act("mail", f"ls {folder}") != 0
        assert sorted(os.listdir(folder)) == ["a.sub", "c.sub"]
