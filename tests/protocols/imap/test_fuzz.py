"""Arbitrary input: the stream of a client, and the grammars of FETCH, SEARCH and their like, true and damaged."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.protocols.imap import Bad, Command, ImapServer, LiteralWanted, Message, ParseError, TextPart
from appliance.protocols.imap.cursor import Cursor, LiteralNeeded
from appliance.protocols.imap.events import Event
from appliance.protocols.imap.grammar import PARSERS, UID_PARSERS, parse

NUMBERS = st.sampled_from(["1", "*", "2:4", "7:*", "$", "1,3:5,9", "4294967295"])
WORDS = st.sampled_from(["x", '"a b"', '"q\\"uo\\\\te"', "NIL", "INBOX", "&BB8-", '"ü"'])
DATES = st.sampled_from(["1-Feb-2020", '"01-Feb-2020"'])

SEARCH_KEYS = st.recursive(
    st.one_of(
        st.sampled_from(
            ["ALL", "SEEN", "UNKEYWORD x", "SAVEDATESUPPORTED", "NEW", "EMAILID M1", "MODSEQ 5", "OLDER 60"]
        ),
        st.builds("{} {}".format, st.sampled_from(["BODY", "SUBJECT", "HEADER X-Y", "TEXT"]), WORDS),
        st.builds("{} {}".format, st.sampled_from(["SINCE", "SENTON", "SAVEDBEFORE"]), DATES),
        st.builds("UID {}".format, NUMBERS),
        NUMBERS,
        st.builds("LARGER {}".format, st.integers(0, 1 << 40)),
    ),
    lambda inner: st.one_of(
        st.builds("NOT {}".format, inner),
        st.builds("OR {} {}".format, inner, inner),
        st.builds("({})".format, st.lists(inner, min_size=1, max_size=3).map(" ".join)),
    ),
    max_leaves=12,
)
SECTIONS = st.sampled_from(["", "1", "1.2.3", "HEADER", "TEXT", "1.MIME", "2.HEADER", "HEADER.FIELDS (To X-A)"])
FETCH_ITEMS = st.one_of(
    st.sampled_from(
        ["FLAGS", "UID", "ENVELOPE", "BODYSTRUCTURE", "PREVIEW", "EMAILID", "MODSEQ", "RFC822.SIZE", "SAVEDATE"]
    ),
    st.builds(
        "BODY{}[{}]{}".format, st.sampled_from(["", ".PEEK"]), SECTIONS, st.sampled_from(["", "<0.10>", "<5.1>"])
    ),
    st.builds("BINARY{}[{}]".format, st.sampled_from(["", ".PEEK", ".SIZE"]), st.sampled_from(["", "1", "2.1"])),
)
COMMANDS = st.one_of(
    st.builds("UID FETCH {} ({}){}".format, NUMBERS, st.lists(FETCH_ITEMS, min_size=1, max_size=4).map(" ".join),
              st.sampled_from(["", " (CHANGEDSINCE 5)", " (CHANGEDSINCE 5 VANISHED)", " (PARTIAL -1:-5)"])),
    st.builds("{}SEARCH {}{}".format, st.sampled_from(["", "UID "]),
              st.sampled_from(["", "RETURN (MIN SAVE) ", "CHARSET utf-8 ", "RETURN (PARTIAL 1:5) "]), SEARCH_KEYS),
    st.builds("SORT ({}) UTF-8 {}".format, st.sampled_from(["DATE", "REVERSE SIZE CC"]), SEARCH_KEYS),
    st.builds("THREAD REFERENCES UTF-8 {}".format, SEARCH_KEYS),
    st.builds("STORE {} +FLAGS.SILENT (\\Seen x)".format, NUMBERS),
    st.builds('LIST ({}) "" ({} a/%) RETURN (STATUS (MESSAGES) SPECIAL-USE)'.format, st.sampled_from(["", "SUBSCRIBED"]), WORDS),
    st.builds("NOTIFY SET STATUS (SELECTED (MessageNew ({}) MessageExpunge)) (SUBTREE ({} b) NONE)".format, FETCH_ITEMS, WORDS),
    st.builds('SETMETADATA {} (/private/a "x" /shared/b NIL)'.format, WORDS),
    st.builds("GETMETADATA (DEPTH infinity MAXSIZE 5) {} (/private/a /shared)".format, WORDS),
    st.builds("CREATE {} (USE (\\Sent \\Junk))".format, WORDS),
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(COMMANDS, st.booleans())
def test_what_the_grammar_allows_is_understood(text: str, utf8: bool) -> None:
    assert isinstance(parse(Cursor(b"a " + text.encode(), utf8=utf8)), Command)


@settings(max_examples=150, deadline=None)
@given(COMMANDS, st.integers(0, 200), st.integers(0, 12), st.binary(max_size=4))
def test_a_damaged_command_is_refused_or_understood(text: str, at: int, cut: int, noise: bytes) -> None:
    line = b"a " + text.encode()
    line = line[: 2 + at] + noise + line[2 + at + cut :]
    try:
        parse(Cursor(line.replace(b"\n", b" "), [b"x"]))
    except (ParseError, LiteralNeeded):
        pass


TOKENS = st.sampled_from(
    [
        *[name.encode() for name in (*PARSERS, *(f"UID {name}" for name in UID_PARSERS), "APPEND", "REPLACE 1", "UID REPLACE 1")],
        *[b"INBOX", b"a ", b" ", b"(", b")", b'"', b"\\", b"{3}\r\n", b"{3+}\r\nabc", b"~{2+}\r\n\0\xff", b"{99999999999}", b"\r\n"],
        *[b"CATENATE (", b"URL ", b"TEXT ", b"UTF8 (", b"RETURN (", b"*", b"%", b"1:*", b"$", b"\r", b"\n", b"\0", b"DONE", b"NIL"],
    ]
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(TOKENS, st.binary(max_size=6)), max_size=40), st.integers(0, 3))
def test_any_stream_is_split_into_events(pieces: list[bytes], answer: int) -> None:
    """Nothing is raised, memory stays bounded, and a session that refuses everything is in step again in the end."""
    server = ImapServer()
    server.authenticated()
    seen: list[Event] = []

    def drain() -> None:
        while (event := server.next_event()) is not None:
            seen.append(event)
            if isinstance(event, (Message, TextPart)):
                if answer:
                    server.accept_message()
                else:
                    server.refuse()
            if isinstance(event, Bad) and event.fatal:
                return

    for piece in pieces:
        server.receive(piece)
        drain()
    # Whatever was announced is over after so many octets; the last line is a command of its own.
    server.receive(b")" * 200 + b"\r\n" * 20 + b"z NOOP\r\n")
    drain()
    if not any(
        isinstance(event, (LiteralWanted, Message, TextPart)) or (isinstance(event, Bad) and event.fatal)
        for event in seen
    ):
        assert isinstance(seen[-1], Command) and seen[-1].tag == b"z"
