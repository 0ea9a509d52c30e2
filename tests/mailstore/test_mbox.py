"""The .mbox file: what a person sees in it, and that every message comes back as it was."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.kernel.files import OsFiles
from appliance.mailstore import flags as f
from appliance.mailstore.mbox import MboxStore
from appliance.mailstore.store import Changed, Damaged, Found, Record, asctime, from_asctime

FILES = OsFiles()
DATE = 1_700_000_000


def record(store: MboxStore, uid: int, content: bytes, flags: int = 0, keywords: int = 0) -> Record:
    prepared, internal = store.prepare(content)
    return Record(uid, flags | internal, keywords, DATE, b"alice@example.com", (prepared,))


def store_all(store: MboxStore, *contents: bytes) -> None:
    size = FILES.stat(store.path).size
    store.append(FILES, size, [record(store, uid, content) for uid, content in enumerate(contents, 1)])


@pytest.fixture
def store(tmp_path: Path) -> MboxStore:
    store = MboxStore(str(tmp_path / "INBOX.mbox"))
    store.create(FILES)
    return store


@pytest.mark.feature("MBOX-124", "BASE-065")
def test_the_from_line_has_return_path_flags_uid_and_time(store: MboxStore) -> None:
    store.append(FILES, 0, [record(store, 17, b"Subject: x\n\nhello\n", f.SEEN | f.FLAGGED)])
    text = Path(store.path).read_bytes()
    line, _, rest = text.partition(b"\n")
    assert line == b"From <alice@example.com>(SF" + b"-" * 35 + b"-0000000017) Tue Nov 14 22:13:20 2023"
    assert rest == b"Subject: x\n\nhello\n\n"


@pytest.mark.feature("MBOX-128", "BASE-065")
def test_from_lines_in_a_message_are_quoted_and_come_back(store: MboxStore) -> None:
    content = b"Subject: x\n\nFrom me to you\n\nFrom <a@b>(-----) Sat Nov 21 04:02:08 2026\n>From here\n"
    store_all(store, content, b"Subject: second\n\nyes\n")
    assert b"\n\n>From me to you\n" in Path(store.path).read_bytes()
    scan = store.scan(FILES)
    assert [message.uid for message in scan.messages] == [1, 2]
    assert store.read(FILES, scan.messages) == [content, b"Subject: second\n\nyes\n"]


@pytest.mark.feature("MBOX-125")
def test_another_program_reads_the_file(store: MboxStore) -> None:
    store_all(store, b"Subject: one\n\na\n", b"Subject: two\n\nFrom b\n\n", b"Subject: three\n\nc\n")
    script = "import mailbox,sys; print([m['Subject'] for m in mailbox.mbox(sys.argv[1])])"
    done = subprocess.run([sys.executable, "-c", script, store.path], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['one', 'two', 'three']"


@pytest.mark.feature("MBOX-126", "MBOX-141", "BASE-066")
def test_messages_of_other_programs_are_read(store: MboxStore) -> None:
    Path(store.path).write_bytes(
        b"From MAILER-DAEMON Fri Jul  8 12:08:34 2011\nSubject: one\n\nhello\n\n"
        b"From bob@example.com  Sat, 9 Jul 2011 02:03 +0200\nSubject: two\n\nFrom here on it is text\n"
    )
    one, two = store.scan(FILES).messages
    assert (one.uid, one.date, two.uid) == (0, 1310126914, 0)
    assert store.read(FILES, [one, two]) == [b"Subject: one\n\nhello\n", b"Subject: two\n\nFrom here on it is text\n"]


@pytest.mark.feature("MBOX-129")
def test_a_file_without_its_last_line_end_is_refused(store: MboxStore) -> None:
    store_all(store, b"Subject: one\n\nhello\n")
    data = Path(store.path).read_bytes()
    Path(store.path).write_bytes(data.rstrip(b"\n"))
    with pytest.raises(Damaged, match="last line"):
        store.scan(FILES)


@pytest.mark.feature("MBOX-130")
def test_very_long_lines_are_stored_whole(store: MboxStore) -> None:
    content = b"Subject: x\n\n" + b"y" * 3_000_000 + b"\nend\n"
    store_all(store, content, b"Subject: z\n\n")
    scan = store.scan(FILES)
    assert store.read(FILES, scan.messages) == [content, b"Subject: z\n\n"]


def test_flags_are_patched_in_place(store: MboxStore) -> None:
    store_all(store, b"a: b\n\n1\n", b"a: b\n\n2\n")
    before = Path(store.path).read_bytes()
    first, second = store.scan(FILES).messages
    store.set_flags(FILES, [(second, second._replace(flags=f.SEEN | f.DELETED, keywords=0b101))])
    after = Path(store.path).read_bytes()
    assert len(after) == len(before)
    assert sum(x != y for x, y in zip(before, after, strict=True)) == 4
    assert store.scan(FILES).messages == [first, second._replace(flags=f.SEEN | f.DELETED, keywords=0b101)]
    assert store.checked(FILES, [(1, first.place), (2, second.place)]) == [(0, 0), (f.SEEN | f.DELETED, 0b101)]
    assert store.checked(FILES, [(1, first.place + 1)]) is None


def test_an_expunged_message_is_marked_and_goes_when_the_file_is_compacted(store: MboxStore) -> None:
    store_all(store, b"a: b\n\n1\n", b"a: b\n\n2\n", b"a: b\n\n3\n")
    messages = store.scan(FILES).messages
    store.set_flags(FILES, [(messages[1], messages[1]._replace(flags=f.EXPUNGED))])
    scan = store.scan(FILES)
    assert [message.uid for message in scan.messages] == [1, 3]
    assert scan.dead == scan.size // 3
    store.compact(FILES)
    again = store.scan(FILES)
    assert (again.dead, again.size) == (0, scan.size - scan.dead)
    assert store.read(FILES, again.messages) == [b"a: b\n\n1\n", b"a: b\n\n3\n"]


def test_an_append_to_a_file_that_another_program_changed_is_refused(store: MboxStore) -> None:
    store_all(store, b"a: b\n\n1\n")
    with pytest.raises(Changed):
        store.append(FILES, 0, [record(store, 2, b"x\n")])


def test_what_a_crash_left_is_told_from_what_was_meant(store: MboxStore) -> None:
    contents = [b"a: b\n\n1\n", b"a: b\n\n2", b"a: b\n\n" + b"3" * 5000 + b"\n"]
    store_all(store, *contents)
    size = FILES.stat(store.path).size
    expected = [(uid, len(content), crc32(content)) for uid, content in enumerate(contents, 1)]
    assert store.verified(FILES, 0, expected) == (3, size)
    third = store.scan(FILES).messages[2].place
    for damage in (size - 1, size - 3000, third - 10):
        data = Path(store.path).read_bytes()
        FILES.truncate(store.path, damage)
        FILES.truncate(store.path, size)  # a hole of zeros, as a file system leaves it
        count, end = store.verified(FILES, 0, expected)
        assert count == 2
        assert end < third
        Path(store.path).write_bytes(data)
    store.set_flags(FILES, [(m, m._replace(flags=m.flags | f.SEEN)) for m in store.scan(FILES).messages])
    assert store.verified(FILES, 0, expected) == (3, size)


LINES = st.sampled_from(
    [b"", b"From x", b"From <a>(b) Sat", b">From ", b"x", b"Subject: y", b"\r", b"\x00\xff", b"From"]
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.lists(LINES, max_size=8), st.booleans()), min_size=1, max_size=5))
def test_everything_comes_back(tmp_path: Path, messages: list[tuple[list[bytes], bool]]) -> None:
    store = MboxStore(str(tmp_path / "x.mbox"))
    Path(store.path).write_bytes(b"")
    contents = [b"\n".join(lines) + (b"\n" if ended else b"") for lines, ended in messages]
    store_all(store, *contents)
    scan = store.scan(FILES)
    assert [message.uid for message in scan.messages] == list(range(1, len(contents) + 1))
    assert store.read(FILES, scan.messages) == contents
    assert scan.size == FILES.stat(store.path).size


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_scan_of_anything_ends_in_messages_or_damage(tmp_path: Path, data: bytes) -> None:
    store = MboxStore(str(tmp_path / "x.mbox"))
    Path(store.path).write_bytes(b"From a Fri Jul  8 12:08:34 2011\n" + data)
    try:
        scan = store.scan(FILES)
    except Damaged:
        return
    assert all(isinstance(message, Found) for message in scan.messages)


def test_marks_across_chunks_are_seen(tmp_path: Path) -> None:
    store = MboxStore(str(tmp_path / "x.mbox"))
    for shift in range(0, 120, 7):
        Path(store.path).write_bytes(b"")
        store_all(store, b"x" * ((1 << 20) - 200 + shift) + b"\n\n", b"second\n")
        assert [message.uid for message in store.scan(FILES).messages] == [1, 2]


@given(st.integers(0, 253402300799))
def test_dates(moment: int) -> None:
    assert from_asctime(asctime(moment)) == moment
    assert len(asctime(moment)) == 24
