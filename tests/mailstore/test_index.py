"""The index is a cache: right, or not believed."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from appliance.kernel.files import OsFiles
from appliance.mailstore import flags as f
from appliance.mailstore.index import Indexed, IndexPool, Texts
from appliance.mailstore.loading import load
from appliance.mailstore.mbox import MboxStore
from appliance.mailstore.store import Record
from appliance.mailstore.table import Row, Table

FILES = OsFiles()


def table(count: int) -> Table:
    made = Table()
    for uid in range(1, count + 1):
        made.append(Row(uid, uid * 100, 90, 95, 1_700_000_000 + uid, uid % 2, 0, uid))
    return made


def test_rows_and_texts_come_back(tmp_path: Path) -> None:
    pool, path = IndexPool(), str(tmp_path / "account.index")
    made = table(1500)
    pool.save(FILES, path, 7, Indexed(1, 10, 2.5, 0), made, None)
    pool.save_texts(FILES, path, 7, {3: Texts(b"e", b"s", b"b")})
    made.flags[3] = f.SEEN | f.FLAGGED
    made.remove([0, 9])
    pool.save(FILES, path, 7, Indexed(1, 11, 3.5, 4), made, [2], [1, 10])
    pool.close()
    known, found = IndexPool().load(FILES, path, 7)
    assert known == Indexed(1, 11, 3.5, 4)
    assert [column.tolist() for column in found.columns()] == [column.tolist() for column in made.columns()]
    again = IndexPool()
    assert again.texts(FILES, path, 7, [1, 2, 3]) == {3: Texts(b"e", b"s", b"b")}
    again.drop(FILES, path, 7)
    assert again.load(FILES, path, 7)[0] is None
    again.close()


@pytest.mark.parametrize("seed", range(20))
def test_a_damaged_file_is_noticed(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    path = tmp_path / "account.index"
    pool = IndexPool()
    made = table(400)
    pool.save(FILES, str(path), 7, Indexed(1, 10, 2.5, 0), made, None)
    pool.close()
    data = bytearray(path.read_bytes())
    at = chance.randrange(0, len(data) - 600)
    data[at : at + 600] = chance.randbytes(600) if seed % 2 else bytes(600)
    path.write_bytes(data[: len(data) - 4096 * (seed % 3)])
    pool = IndexPool()
    known, found = pool.load(FILES, str(path), 7)
    if known is not None:
        assert [column.tolist() for column in found.columns()] == [column.tolist() for column in made.columns()]
    pool.save(FILES, str(path), 7, Indexed(1, 10, 2.5, 0), made, None)
    assert pool.load(FILES, str(path), 7)[0] is not None
    pool.close()


def test_no_more_files_are_open_than_allowed(tmp_path: Path) -> None:
    pool = IndexPool(limit=3)
    for number in range(10):
        pool.save(FILES, str(tmp_path / f"{number}.index"), 1, Indexed(1, 1, 1.0, 0), table(2), None)
    assert len(pool._open) == 3
    assert len(pool.load(FILES, str(tmp_path / "0.index"), 1)[1]) == 2
    pool.close()


def test_a_mailbox_that_grew_is_read_at_its_tail_only(tmp_path: Path) -> None:
    store, pool, path = MboxStore(str(tmp_path / "x.mbox")), IndexPool(), str(tmp_path / "account.index")
    store.create(FILES)
    records = [Record(uid, 0, 0, 5, b"", (b"a: b\n\n%d\n" % uid,)) for uid in range(1, 6)]
    store.append(FILES, 0, records[:3])
    first = load(FILES, store, pool, path, 1, 0)
    assert (first.scanned, first.complete) == (3, False)
    first.table.settle(9)
    pool.save(FILES, path, 1, Indexed(0, first.size, first.modified, 0), first.table, None)
    assert load(FILES, store, pool, path, 1, 0).complete
    store.append(FILES, first.size, records[3:])
    store.set_flags(FILES, [(first.table.found(1), first.table.found(1)._replace(flags=f.SEEN))])
    store.set_flags(FILES, [(first.table.found(2), first.table.found(2)._replace(flags=f.EXPUNGED))])
    grown = load(FILES, store, pool, path, 1, 0)
    assert list(grown.table.uids) == [1, 2, 4, 5]
    assert list(grown.table.flags) == [0, f.SEEN, 0, 0]
    assert list(grown.table.modseqs) == [9, 0, 0, 0]
    assert load(FILES, store, pool, path, 1, 5).scanned == 4
    Path(store.path).write_bytes(b"From me Fri Jul  8 12:08:34 2011\n\nother\n" * 30)
    assert len(load(FILES, store, pool, path, 1, 0).foreign) >= 1
    pool.close()
