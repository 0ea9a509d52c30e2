"""Files that are cut short, overwritten with rubbish, or of another version: told or read as far as it goes, never served wrong."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from appliance.kernel.files import OsFiles
from appliance.mailstore.index import Indexed, IndexPool, Texts
from appliance.mailstore.loading import load
from appliance.mailstore.mbox import MboxStore
from appliance.mailstore.mdir import MdirStore
from appliance.mailstore.store import Damaged, Record
from appliance.mailstore.table import Row, Table

FILES = OsFiles()
SLOW = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def records(count: int) -> list[Record]:
    return [
        Record(uid, uid % 4, 0, 1_700_000_000, b"a@b", (b"Subject: %d\n\n%s" % (uid, b"text\n" * uid),))
        for uid in range(1, count + 1)
    ]


RUBBISH = st.one_of(
    st.binary(max_size=300),
    st.sampled_from(
        [b"\n\nFrom ", b"\n\nFrom x\n", b"From <>(", b"\n" * 50, b"\n\nFrom a Fri Jul  8 12:08:34 2011\n", bytes(5000)]
    ),
)


@SLOW
@example(0, b"", False, 1413)
@given(st.integers(0, 2000), RUBBISH, st.booleans(), st.integers(0, 2000))
def test_an_mbox_with_rubbish(tmp_path: Path, at: int, rubbish: bytes, over: bool, cut: int) -> None:
    path = tmp_path / "x.mbox"
    store, pool, index = MboxStore(str(path)), IndexPool(), str(tmp_path / "account.index")
    path.write_bytes(b"")
    (tmp_path / "account.index").unlink(missing_ok=True)
    store.append(FILES, 0, records(8))
    first = load(FILES, store, pool, index, 1, 0)
    first.table.settle(1)
    pool.save(FILES, index, 1, Indexed(0, first.size, first.modified, 0, 1), first.table, None)
    good = path.read_bytes()
    at %= len(good)
    bad = good[:at] + rubbish + good[at + (len(rubbish) if over else 0) :]
    bad = bad[: len(bad) - cut % len(bad)] if cut % 3 == 0 else bad
    path.write_bytes(bad)
    try:
        loaded = load(FILES, store, pool, index, 1, 0)
    except Damaged:
        pool.close()
        return
    uids = list(loaded.table.uids)
    assert uids == sorted(set(uids)) and all(0 < uid < 1 << 32 for uid in uids)
    for row in [*(loaded.table.row(number) for number in range(len(uids))), *loaded.foreign]:
        assert 0 <= row.place <= row.place + row.length <= path.stat().st_size  # a last line may have been ended
    # What stands before the damage is what it was, byte for byte.
    for number, uid in enumerate(uids):
        found = loaded.table.found(number)
        if found.place + found.length < at and bad[:at] == good[:at] and uid <= 8:
            assert store.read(FILES, [found])[0] == records(8)[uid - 1].content[0]
    # The index that comes of it says the same.
    fresh = IndexPool()
    loaded.table.settle(1)
    if not loaded.foreign:
        fresh.save(FILES, index, 1, Indexed(0, loaded.size, loaded.modified, loaded.dead, 1), loaded.table, None)
        again = load(FILES, store, fresh, index, 1, 0)
        assert [column.tolist() for column in again.table.columns()] == [c.tolist() for c in loaded.table.columns()]
    fresh.close()
    pool.close()


@SLOW
@given(st.lists(st.text(alphabet="0123456789-SFabc.x\u00e9", min_size=1, max_size=40), max_size=10))
def test_an_mdir_with_strange_names(tmp_path: Path, names: list[str]) -> None:
    path = tmp_path / "x.mdir"
    if path.exists():
        FILES.remove_tree(str(path))
    store, pool, index = MdirStore(str(path)), IndexPool(), str(tmp_path / "account.index")
    store.create(FILES)
    store.append(FILES, 0, records(3))
    for name in names:
        if name not in (".", ".."):
            (path / name).write_bytes(b"rubbish\n")
    loaded = load(FILES, store, pool, index, 1, 0)
    uids = list(loaded.table.uids)
    assert uids == sorted(set(uids)) and {1, 2, 3} <= set(uids)
    for number in range(len(uids)):
        assert len(store.read(FILES, [loaded.table.found(number)])[0]) == loaded.table.lengths[number]
    pool.close()


@pytest.mark.parametrize("seed", range(25))
def test_damaged_texts_are_not_served(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    path = tmp_path / "account.index"
    texts = {
        uid: Texts(b"envelope %d" % uid * 20, b"structure %d" % uid * 20, b"body %d" % uid) for uid in range(1, 400)
    }
    pool = IndexPool()
    pool.save_texts(FILES, str(path), 7, texts)
    pool.close()
    data = bytearray(path.read_bytes())
    for _ in range(3):
        at = chance.randrange(100, len(data) - 300)
        data[at : at + 300] = chance.randbytes(300) if seed % 2 else bytes(300)
    path.write_bytes(data[: len(data) - chance.choice((0, 0, 5000))])
    pool = IndexPool()
    for bodies in (False, True):
        for uid, found in pool.texts(FILES, str(path), 7, range(1, 400), bodies=bodies).items():
            assert found == (*texts[uid][:2], texts[uid].body if bodies else None)
    pool.save_texts(FILES, str(path), 7, texts)
    assert len(pool.texts(FILES, str(path), 7, range(1, 400))) == 399
    pool.close()


@pytest.mark.parametrize("version", [0, 2, 99])
def test_an_index_of_another_version_is_made_anew(tmp_path: Path, version: int) -> None:
    path = str(tmp_path / "account.index")
    database = sqlite3.connect(path)
    database.executescript(
        "CREATE TABLE box (id INTEGER PRIMARY KEY, generation INTEGER, size INTEGER, modified REAL, dead INTEGER, crc INTEGER);"
        f"INSERT INTO box VALUES (1, 0, 10, 1.0, 0, 0); CREATE TABLE rows (x); PRAGMA user_version = {version};"
    )
    database.close()
    pool = IndexPool()
    assert pool.load(FILES, path, 1)[0] is None
    table = Table()
    table.append(Row(1, 2, 3, 4, 5, 6, 7, 8))
    pool.save(FILES, path, 1, Indexed(0, 1, 1.0, 0, 8), table, None)
    pool.close()
    known, found = IndexPool().load(FILES, path, 1)
    assert known is not None and found.row(0) == Row(1, 2, 3, 4, 5, 6, 7, 8)


def test_rubbish_instead_of_an_index(tmp_path: Path) -> None:
    path = tmp_path / "account.index"
    for rubbish in (b"", b"x", random.Random(1).randbytes(50_000), b"SQLite format 3\0" + bytes(5000)):
        path.write_bytes(rubbish)
        pool = IndexPool()
        assert pool.load(FILES, str(path), 1)[0] is None
        pool.save_texts(FILES, str(path), 1, {1: Texts(b"e", b"s", b"b")})
        assert pool.texts(FILES, str(path), 1, [1]) == {1: (b"e", b"s", b"b")}
        pool.close()
