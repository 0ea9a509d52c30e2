"""Numbers and UIDs of one session's picture; rows of FETCH."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.protocols.imap import MessageView
from appliance.protocols.imap.rows import OpenRow, RowFormat
from appliance.protocols.imap.sequence import SequenceSet


def test_numbers_and_uids() -> None:
    view = MessageView([101, 103, 110])
    assert [view.number(uid) for uid in (101, 102, 103, 110, 111)] == [1, 0, 2, 3, 0]
    assert view.uid(3) == 110
    assert list(view.by_number(SequenceSet([(2, 0)]))) == [103, 110]
    assert list(view.by_uid(SequenceSet([(101, 105), (200, 200)]))) == [101, 103]
    assert list(view.by_uid(SequenceSet([(500, 0)]))) == [110]
    with pytest.raises(IndexError):
        view.by_number(SequenceSet([(4, 4)]))
    assert list(MessageView().by_number(SequenceSet([(1, 0)]))) == []
    assert list(view.numbered([101, 102, 110])) == [(1, 101), (3, 110)]


def test_what_vanished_keeps_its_number_until_it_is_told() -> None:
    view = MessageView([1, 2, 3, 4])
    view.vanish([2, 3, 99])
    assert view.pending
    assert view.number(4) == 4
    assert view.extend([4, 5]) == 1
    assert view.expunge() == [2, 2]
    assert list(view.uids) == [1, 4, 5]
    assert view.expunge() == []


@settings(max_examples=60, deadline=None)
@given(st.sets(st.integers(1, 60)), st.sets(st.integers(1, 60)))
def test_expunge_lines_mean_the_same_to_the_client(uids: set[int], gone: set[int]) -> None:
    client = sorted(uids)
    view = MessageView(client)
    view.vanish(gone)
    for number in view.expunge():
        del client[number - 1]
    assert client == sorted(uids - gone) == list(view.uids)


def test_a_hundred_thousand_messages_are_small_and_quick() -> None:
    view = MessageView(range(1, 200_001, 2))
    assert len(view.uids) * view.uids.itemsize == 400_000
    assert len(view.by_number(SequenceSet([(1, 0)]))) == 100_000
    view.vanish(range(1, 200_001, 4))
    assert len(view.expunge()) == 50_000
    assert view.uids[:3] == array("I", [3, 7, 11])


def test_rows() -> None:
    row = (1, 7, b"(\\Seen)", b'" 1-Feb-2020 10:20:30 +0100"', 42, b"(NIL)", b"(TEXT)", None, 9)
    assert RowFormat(["FLAGS", "UID", "RFC822.SIZE"]).join([row, (2, *row[1:])]) == (
        b"* 1 FETCH (FLAGS (\\Seen) UID 7 RFC822.SIZE 42)\r\n* 2 FETCH (FLAGS (\\Seen) UID 7 RFC822.SIZE 42)\r\n"
    )
    assert RowFormat(["ENVELOPE", "MODSEQ"]).join([row]) == b"* 1 FETCH (ENVELOPE (NIL) MODSEQ (9))\r\n"
    assert OpenRow(["UID"]).begin(row) == b"* 1 FETCH (UID 7 "
    assert OpenRow([]).begin(row) == b"* 1 FETCH ("
