"""What the operating system gives: who the process becomes without root, whose files are."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from firmware import platform


@pytest.mark.feature("INST-091")
@pytest.mark.parametrize(
    ("users", "becomes"), [({"cgatepro": 900, "nobody": 65534}, 900), ({"nobody": 65534}, 65534), ({}, 1)]
)
def test_the_user_without_root(monkeypatch: pytest.MonkeyPatch, users: dict[str, int], becomes: int) -> None:
    def lookup(name: str) -> pwd.struct_passwd:
        return pwd.struct_passwd((name, "x", users[name], users[name], "", "/", "/bin/false"))

    calls: list[tuple[str, object]] = []
    monkeypatch.setattr(pwd, "getpwnam", lookup)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    for name in ("setgroups", "setgid", "setuid"):
        monkeypatch.setattr(os, name, lambda value, name=name: calls.append((name, value)))
    assert platform.drop_root() is not None
    assert calls == [("setgroups", [becomes]), ("setgid", becomes), ("setuid", becomes)], "the user last"


def test_who_is_not_root_has_nothing_to_drop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert platform.drop_root() is None


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_tree_is_given_and_what_links_point_to_is_not(tmp_path: Path) -> None:
    base, outside = tmp_path / "base", tmp_path / "outside"
    (base / "a" / "b").mkdir(parents=True)
    (base / "a" / "file").touch()
    outside.mkdir()
    (outside / "theirs").touch()
    (base / "link").symlink_to(outside)
    platform.give_tree(str(base), 65534)
    assert {(base / name).lstat().st_uid for name in ("", "a", "a/b", "a/file", "link")} == {65534}
    assert outside.stat().st_uid == (outside / "theirs").stat().st_uid == 0
