"""The .mdir directory, and what is found in one that others have written to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from appliance.kernel.files import OsFiles
from appliance.mailstore import flags as f
from appliance.mailstore.mdir import NO_LINES, MdirStore
from appliance.mailstore.store import Found, Record

FILES = OsFiles()
DATE = 1_700_000_000


@pytest.fixture
def store(tmp_path: Path) -> MdirStore:
    store = MdirStore(str(tmp_path / "INBOX.mdir"))
    store.create(FILES)
    return store


@pytest.mark.feature("MBOX-134", "MBOX-135", "BASE-067")
def test_names_tell_uid_flags_time_and_lines(store: MdirStore) -> None:
    store.append(FILES, 0, [Record(17, f.SEEN | f.FLAGGED, 1, DATE, b"", (b"a: b\n\n", b"x\n"))])
    assert os.listdir(store.path) == ["0000000017-SFa-20231114221320-3"]
    (message,) = store.scan(FILES).messages
    assert message == Found(17, 3, 8, f.SEEN | f.FLAGGED, 1, DATE)
    store.set_flags(FILES, [(message, message._replace(flags=f.ANSWERED, keywords=0))])
    assert os.listdir(store.path) == ["0000000017-A-20231114221320-3"]


@pytest.mark.feature("MBOX-136", "BASE-067")
def test_names_of_other_versions(store: MdirStore) -> None:
    for name in ("5-S-0", "7--20231114221320", "notes.txt", "x-S-0", "99999999999-S-0", "7-S-0-1"):
        (Path(store.path) / name).write_bytes(b"a: b\n\nhello\n")
    messages = store.scan(FILES).messages
    assert [(m.uid, m.date, m.place) for m in messages][:1] == [(5, 0, NO_LINES)]
    assert [m.uid for m in messages] == [5, 7]
    assert store.read(FILES, messages[:1]) == [b"a: b\n\nhello\n"]
    store.set_flags(FILES, [(messages[0], messages[0]._replace(flags=f.DELETED))])
    assert "0000000005-D-0" in os.listdir(store.path)
    store.remove(FILES, [messages[0]._replace(flags=f.DELETED)])
    assert [m.uid for m in store.scan(FILES).messages] == [7]


def test_a_store_that_fails_leaves_nothing(store: MdirStore) -> None:
    record = Record(1, 0, 0, DATE, b"", (b"x\n",))
    store.append(FILES, 0, [record])
    with pytest.raises(Exception, match="INBOX"):
        store.append(FILES, 0, [record._replace(uid=2), record])
    assert len(os.listdir(store.path)) == 1


def test_a_link_keeps_its_text(store: MdirStore, tmp_path: Path) -> None:
    other = MdirStore(str(tmp_path / "other.mdir"))
    other.create(FILES)
    store.append(FILES, 0, [Record(1, 0, 0, DATE, b"", (b"x\n",))])
    (message,) = store.scan(FILES).messages
    other.link(FILES, store.file_of(message), message._replace(uid=9))
    store.set_flags(FILES, [(message, message._replace(flags=f.SEEN))])
    store.remove(FILES, [message._replace(flags=f.SEEN)])
    assert other.read(FILES, other.scan(FILES).messages) == [b"x\n"]
