"""Random commands in several sessions at once: nothing breaks, and the numbers that the client keeps stay true."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
import trio

from appliance.kernel.channel import ChannelError

if TYPE_CHECKING:
    from .conftest import Office

BOXES = ["INBOX", "INBOX", "INBOX", "a", "a/b", "x y", "~jim/INBOX", "~boss/INBOX", "nosuch", "big.mdir", "a/"]
ITEMS = [
    "FLAGS",
    "UID",
    "BODY[]",
    "BODY.PEEK[HEADER]",
    "RFC822.SIZE",
    "ENVELOPE",
    "BODY",
    "MODSEQ",
    "BODY[1.MIME]",
    "RFC822.TEXT",
]
FLAGS = ["\\Seen", "\\Deleted", "\\Flagged", "Work", "$MDNSent", "\\Recent", "\\*"]
KEYS = ["ALL", "SEEN", "NEW", "KEYWORD Work", "FROM ann", "BODY text", "SINCE 1-Feb-2020", "UID 1:*", "1:*", "MODSEQ 3"]
MESSAGE = "Subject: x\r\nFrom: ann@b.c\r\n\r\n.\r\n"


class Client:
    """Makes up commands."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def numbers(self) -> str:
        choice = self.random.choice
        return ",".join(choice(["1", "2", "*", "1:*", "3:2", "7", "*:4", "12"]) for _ in range(choice([1, 1, 2])))

    def key(self, depth: int = 0) -> str:
        kind = self.random.choice([*KEYS, "NOT", "OR", "("]) if depth < 4 else "ALL"
        if kind == "NOT":
            return f"NOT {self.key(depth + 1)}"
        if kind == "OR":
            return f"OR {self.key(depth + 1)} {self.key(depth + 1)}"
        return f"({self.key(depth + 1)} {self.key(depth + 1)})" if kind == "(" else kind

    def command(self) -> str:
        pick = self.random.choice
        uid, box = pick(["", "UID "]), f'"{pick(BOXES)}"'
        flags = " ".join(self.random.sample(FLAGS, 2))
        items = " ".join(self.random.sample(ITEMS, 3))
        return pick(
            [
                *["SELECT INBOX"] * 3,
                *[f"APPEND {box} ({flags}) {{{len(MESSAGE)}+}}\r\n{MESSAGE}"] * 3,
                *[f"{uid}FETCH {self.numbers()} ({items})", f"{uid}SEARCH {self.key()}"] * 2,
                *[f"{uid}STORE {self.numbers()} {pick(['', '+', '-'])}FLAGS{pick(['', '.SILENT'])} ({flags})"] * 2,
                *[
                    "NOOP",
                    "EXPUNGE",
                    "CLOSE",
                    "IDLE\r\nDONE",
                    "CHECK",
                    f"SELECT {box}",
                    f"EXAMINE {box}",
                    f"CREATE {box}",
                ],
                *[
                    f"DELETE {box}",
                    f'RENAME {box} "{pick(BOXES)}"',
                    'LIST "" *',
                    f"STATUS {box} (MESSAGES OLDEST RECENT)",
                ],
                *[
                    f"{uid}COPY {self.numbers()} {box}",
                    f"{uid}MOVE {self.numbers()} {box}",
                    f"UID EXPUNGE {self.numbers()}",
                ],
                *["ENABLE CONDSTORE", "SELECT INBOX (QRESYNC (1 1))", f"{uid}FETCH 1:* (FLAGS) (CHANGEDSINCE 9)"],
            ]
        )


async def session(office: Office, seed: int) -> None:
    maker = Client(seed)
    async with office.logged_in() as client:
        known = 0
        for _ in range(80):
            command = maker.command()
            try:
                *lines, last = await client.do(command)
            except (EOFError, ChannelError):
                return  # the selected mailbox was removed
            assert last.split()[0] in (b"OK", b"NO", b"BAD"), last
            if command.startswith(("SELECT", "EXAMINE")) and not last.startswith(b"BAD"):
                known = 0
            for line in lines:
                words = line.split()
                if words[2:3] == [b"EXISTS"]:
                    assert int(words[1]) >= known
                    known = int(words[1])
                elif words[2:3] == [b"EXPUNGE"]:
                    assert 1 <= int(words[1]) <= known, (command, line)
                    known -= 1
                elif words[2:3] == [b"FETCH"]:
                    assert 1 <= int(words[1]) <= known, (command, line)


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_random_commands(office: Office, seed: int) -> None:
    office.domains.main.access["jim"] = ["Master"]
    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(session, office, seed * 100 + number)
