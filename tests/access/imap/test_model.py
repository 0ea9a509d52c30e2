"""Several clients do random things to the same mailboxes, and one plain model knows what each of them must see.

Commands come in turns, so that the model can say exactly what is true; some sessions idle meanwhile, one is told UIDs in place
of numbers, and in between all of them write at once. What a client believes is built from the server's lines alone.
`PILLARBOX_MODEL_SECONDS` lets it run for longer than a check of a change takes, `PILLARBOX_MODEL_SEED` again as it did.
"""

from __future__ import annotations

import os
import random
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
import trio

if TYPE_CHECKING:
    from .conftest import Client, Office

SECONDS = float(os.environ.get("PILLARBOX_MODEL_SECONDS", "0"))
COMMANDS = 250
FLAGS = ["\\Seen", "\\Deleted", "\\Flagged", "\\Answered", "Work", "Later"]
KEYS = ["SEEN", "UNSEEN", "DELETED", "UNDELETED", "FLAGGED", "KEYWORD Work", "UNKEYWORD Later", "ALL"]
BOXES = ["INBOX", "a", "b"]
FETCHED = re.compile(rb"\* (\d+) FETCH \(")
SETS = re.compile(r"(\d+)(?::(\d+))?")


def expanded(text: bytes) -> list[int]:
    found: list[int] = []
    for low, high in SETS.findall(text.decode()):
        found += range(int(low), int(high or low) + 1)
    return found


@dataclass
class Letter:
    body: bytes
    flags: set[str]


@dataclass
class Box:
    """The truth about a mailbox."""

    letters: dict[int, Letter] = field(default_factory=dict)
    bodies: dict[int, bytes] = field(default_factory=dict)
    uidnext: int = 1

    def add(self, uid: int, body: bytes, flags: set[str]) -> None:
        assert uid not in self.bodies, "a UID was used again"
        self.letters[uid] = Letter(body, flags)
        self.bodies[uid] = body
        if uid < self.uidnext:  # several wrote at once, and their answers come in any order
            self.letters = dict(sorted(self.letters.items()))
        self.uidnext = max(self.uidnext, uid + 1)


class Session:
    """A client and what it believes of the mailbox that it has selected."""

    def __init__(self, client: Client, number: int, world: dict[str, Box], chance: random.Random) -> None:
        self.client = client
        self.number = number
        self.world = world
        self.chance = chance
        self.box = ""
        self.writes = False
        self.seq: list[int] = []
        self.flags: dict[int, set[str]] = {}
        self.unknown = 0
        self.idling = b""

    # -- what the server says -----------------------------------------------------------------------------------------

    def hear(self, line: bytes) -> None:
        words = line.split()
        if words[2:3] == [b"EXISTS"]:
            count = int(words[1])
            assert count >= len(self.seq), line
            self.unknown = count - len(self.seq)
        elif words[2:3] == [b"EXPUNGE"]:
            number = int(words[1])
            assert 1 <= number <= len(self.seq) + self.unknown, line
            if number > len(self.seq):
                self.unknown -= 1
            else:
                del self.seq[number - 1]
        elif words[1:2] == [b"VANISHED"]:
            gone = set(expanded(words[2]))
            self.seq = [uid for uid in self.seq if uid not in gone]
        elif found := FETCHED.match(line):
            self._fetched(int(found[1]), line)

    def _fetched(self, number: int, line: bytes) -> None:
        uid = re.search(rb"UID (\d+)", line)
        if number > len(self.seq):
            assert number <= len(self.seq) + self.unknown, line
            if uid is None or number > len(self.seq) + 1:
                return  # flags of a message that was not asked for yet
            assert not self.seq or int(uid[1]) > self.seq[-1], line
            self.seq.append(int(uid[1]))
            self.unknown -= 1
        known = self.seq[number - 1]
        assert uid is None or int(uid[1]) == known, (line, self.seq)
        flags = re.search(rb"FLAGS \(([^)]*)\)", line)
        if flags is not None:
            self.flags[known] = set(flags[1].decode().split()) - {"\\Recent"}

    async def do(self, command: str | bytes, *, expunge: bool = True) -> list[bytes]:
        lines = await self.client.do(command)
        for line in lines[:-1]:
            assert expunge or b" EXPUNGE" not in line, (command, line)
            self.hear(line)
        return lines

    async def fill(self) -> None:
        """Ask for what has come."""
        while self.unknown:
            await self.do(f"UID FETCH {(self.seq[-1] if self.seq else 0) + 1}:* (FLAGS)")

    async def check(self) -> None:
        """After NOOP what is believed is what is true."""
        if not self.box:
            return
        assert (await self.do("NOOP"))[-1].startswith(b"OK")
        await self.fill()
        truth = self.world[self.box].letters
        assert self.seq == list(truth), (self.number, self.box)
        for uid, letter in truth.items():
            assert self.flags[uid] == letter.flags, (self.number, self.box, uid, self.flags[uid], letter.flags)

    # -- what it does -------------------------------------------------------------------------------------------------

    def numbers(self, *, uid: bool) -> tuple[str, list[int]]:
        """A random set, and the UIDs that it names here."""
        if uid:
            most = self.world[self.box].uidnext + 2
            picked = sorted(self.chance.sample(range(1, most + 1), min(most, self.chance.randint(1, 4))))
            return ",".join(map(str, picked)), [number for number in self.seq if number in picked]
        first, last = sorted(self.chance.choices(range(1, len(self.seq) + 1), k=2))
        return f"{last}:{first}" if self.chance.random() < 0.3 else f"{first}:{last}", self.seq[first - 1 : last]

    async def act(self) -> None:
        if self.idling:
            await self.client.send("DONE\r\n")
            tag, self.idling = self.idling, b""
            for line in (await self.client.answer(tag))[:-1]:
                self.hear(line)
            await self.fill()
            return
        choices = [self.append] * 3 + [self.select] + [self.status]
        if self.box:
            choices += [self.store] * 6 + [self.fetch] * 4 + [self.search] * 3 + [self.copy] * 3 + [self.expunge] * 2
            choices += [self.check, self.close, self.idle, self.replace]
        await self.chance.choice(choices)()
        if not self.idling:
            await self.fill()

    def some_flags(self) -> set[str]:
        return set(self.chance.sample(FLAGS, self.chance.randint(0, 3)))

    def letter(self) -> bytes:
        return b"Subject: %d\r\n\r\n%b\r\n" % (self.chance.randrange(10**9), b"x" * self.chance.randrange(200))

    async def append(self) -> None:
        name, body, flags = self.chance.choice(BOXES), self.letter(), self.some_flags()
        last = (
            await self.do(b"APPEND %b (%b) {%d+}\r\n%b" % (name.encode(), " ".join(flags).encode(), len(body), body))
        )[-1]
        found = re.match(rb"OK \[APPENDUID \d+ (\d+)\]", last)
        assert found, last
        self.world[name].add(int(found[1]), body, flags)

    async def select(self) -> None:
        self.writes = self.chance.random() < 0.85
        self.box = self.chance.choice(BOXES)
        self.seq, self.flags, self.unknown = [], {}, 0
        lines = await self.client.do(f"{'SELECT' if self.writes else 'EXAMINE'} {self.box}")
        assert lines[-1].startswith(b"OK"), lines
        for line in lines[:-1]:
            self.hear(line)
        await self.fill()
        await self.check()

    async def status(self) -> None:
        name = self.chance.choice(BOXES)
        lines = await self.do(f"STATUS {name} (MESSAGES UNSEEN UIDNEXT)")
        box = self.world[name]
        unseen = sum("\\Seen" not in letter.flags for letter in box.letters.values())
        wanted = f"* STATUS {name} (MESSAGES {len(box.letters)} UNSEEN {unseen} UIDNEXT {box.uidnext})"
        assert wanted.encode() in lines, (wanted, lines)

    async def store(self) -> None:
        uid = self.chance.random() < 0.5
        if not (uid or self.seq):
            return
        text, uids = self.numbers(uid=uid)
        mode, flags = self.chance.choice(["+", "-", ""]), self.some_flags()
        silent = self.chance.choice(["", ".SILENT"])
        command = f"{'UID ' * uid}STORE {text} {mode}FLAGS{silent} ({' '.join(flags)})"
        last = (await self.do(command, expunge=uid))[-1]
        if not self.writes:
            assert last.startswith(b"NO"), last
            return
        assert last.startswith(b"OK"), (command, last)
        for number in uids:
            letter = self.world[self.box].letters.get(number)
            if letter is not None:
                letter.flags = {"+": letter.flags | flags, "-": letter.flags - flags, "": set(flags)}[mode]
                if silent:
                    self.flags[number] = set(letter.flags)

    async def fetch(self) -> None:
        uid = self.chance.random() < 0.5
        if not (uid or self.seq):
            return
        text, uids = self.numbers(uid=uid)
        before = list(self.seq)
        item = self.chance.choice(["FLAGS", "BODY.PEEK[]", "(UID RFC822.SIZE)", "(UID BODY.PEEK[TEXT] FLAGS)"])
        command = f"{'UID ' * uid}FETCH {text} {item}"
        lines = await self.do(command, expunge=uid)
        assert lines[-1].startswith(b"OK"), lines[-1]
        told = dict.fromkeys(uids, b"")
        for line in lines:
            if (found := FETCHED.match(line)) and int(found[1]) <= len(before):
                told[before[int(found[1]) - 1]] = told.get(before[int(found[1]) - 1], b"") + line
        bodies = self.world[self.box].bodies
        for number in uids:
            line = told[number]
            assert line, (command, number, number in self.world[self.box].letters, lines)
            if "[]" in item:
                assert bodies[number] in line, (number, line)
            elif "TEXT" in item:
                assert bodies[number].partition(b"\r\n\r\n")[2] in line, (number, line)
            elif "SIZE" in item:
                assert b"RFC822.SIZE %d)" % len(bodies[number]) in line, (number, line)

    async def search(self) -> None:
        letters = self.world[self.box].letters
        known = [uid for uid in self.seq if uid in letters]
        keys = self.chance.sample(KEYS, 2)
        join = self.chance.choice(["{} {}", "OR {} {}", "NOT ({} {})"])
        uid = self.chance.random() < 0.5
        before = list(self.seq)
        lines = await self.do(f"{'UID ' * uid}SEARCH {join.format(*keys)}", expunge=uid)
        one, two = ({number for number in known if holds(letters[number].flags, key)} for key in keys)
        right = {"{} {}": one & two, "OR {} {}": one | two, "NOT ({} {})": set(known) - (one & two)}[join]
        wanted = [number if uid else before.index(number) + 1 for number in known if number in right]
        [found] = [line for line in lines if line.startswith(b"* SEARCH")]
        assert list(map(int, found.split()[2:])) == wanted, (join, keys)

    async def copy(self) -> None:
        uid = self.chance.random() < 0.5
        if not (uid or self.seq):
            return
        text, uids = self.numbers(uid=uid)
        name = self.chance.choice(["COPY", "MOVE"])
        target = self.chance.choice(BOXES)
        lines = await self.do(f"{'UID ' * uid}{name} {text} {target}")
        last = lines[-1]
        letters = self.world[self.box].letters
        here = [number for number in uids if number in letters]
        if name == "MOVE" and not self.writes:
            assert last.startswith(b"NO"), last
            return
        if name == "COPY" and not uid and len(here) < len(uids):
            assert last.startswith(b"NO [EXPUNGEISSUED]"), last
            return
        assert last.startswith(b"OK"), last
        code = next((found for line in lines if (found := re.search(rb"\[COPYUID \d+ (\S+) (\S+)\]", line))), None)
        assert (code is not None) == bool(here), lines
        if code is None:
            return
        assert expanded(code[1]) == here
        for old, new in zip(here, expanded(code[2]), strict=True):
            letter = letters[old]
            self.world[target].add(new, letter.body, set(letter.flags))
        if name == "MOVE":
            for old in here:
                del letters[old]

    async def replace(self) -> None:
        letters = self.world[self.box].letters
        here = [uid for uid in self.seq if uid in letters]
        if not (here and self.writes):
            return
        uid, name, body, flags = self.chance.choice(here), self.chance.choice(BOXES), self.letter(), self.some_flags()
        head = f"UID REPLACE {uid} {name} ({' '.join(flags)}) {{{len(body)}+}}\r\n"
        lines = await self.do(head.encode() + body)
        assert lines[-1].startswith(b"OK"), lines
        [new] = [found[1] for line in lines if (found := re.search(rb"APPENDUID \d+ (\d+)", line))]
        self.world[name].add(int(new), body, flags)
        del letters[uid]
        assert uid not in self.seq

    async def expunge(self) -> None:
        letters = self.world[self.box].letters
        marked = {number for number, letter in letters.items() if "\\Deleted" in letter.flags}
        if self.chance.random() < 0.5:
            text, uids = self.numbers(uid=True)
            # Only what this client can know of goes: others may come between.
            marked &= set(uids)
            last = (await self.do(f"UID EXPUNGE {text}"))[-1]
        else:
            last = (await self.do("EXPUNGE"))[-1]
        assert last.startswith(b"OK" if self.writes else b"NO"), last
        if self.writes:
            for number in marked:
                del letters[number]

    async def close(self) -> None:
        name = self.chance.choice(["CLOSE", "UNSELECT"])
        box, self.box = self.box, ""
        assert (await self.client.do(name))[-1].startswith(b"OK")
        self.seq, self.unknown = [], 0
        if name == "CLOSE" and self.writes:
            letters = self.world[box].letters
            for number in [number for number, letter in letters.items() if "\\Deleted" in letter.flags]:
                del letters[number]

    async def idle(self) -> None:
        self.idling = b"i%d" % next(self.client.tags)
        await self.client.send(self.idling + b" IDLE\r\n")
        while not (line := await self.client.line()).startswith(b"+"):
            self.hear(line)


def holds(flags: set[str], key: str) -> bool:
    match key.split():
        case ["ALL"]:
            return True
        case ["KEYWORD", word]:
            return word in flags
        case ["UNKEYWORD", word]:
            return word not in flags
    name = key.removeprefix("UN").capitalize()
    return ("\\" + name in flags) != key.startswith("UN")


async def together(sessions: list[Session]) -> None:
    """All that do not idle write at once."""
    async with trio.open_nursery() as nursery:
        for session in sessions:
            if not session.idling:
                nursery.start_soon(session.append)


@pytest.mark.feature("IMAP-021", "IMAP-054", "IMAP-055", "IMAP-093", "ACC-036", "ACC-038", "STD-057")
@pytest.mark.parametrize("seed", [1, 2])
async def test_clients_see_what_is_true(office: Office, seed: int) -> None:
    if SECONDS:
        seed = int(os.environ.get("PILLARBOX_MODEL_SEED", seed + int(time.time())))
    chance = random.Random(seed)
    world = {name: Box() for name in BOXES}
    until = time.monotonic() + SECONDS
    async with (
        office.logged_in() as one,
        office.logged_in() as two,
        office.logged_in() as three,
        office.logged_in() as four,
    ):
        await one.ok("CREATE a.mbox")
        await one.ok("CREATE b.mdir")
        await four.ok("ENABLE QRESYNC")
        sessions = [Session(client, number, world, chance) for number, client in enumerate((one, two, three, four))]
        done = 0
        while done < COMMANDS or time.monotonic() < until:
            done += 1
            if chance.random() < 0.02:
                await together(sessions)
                for session in sessions:
                    if not session.idling:
                        await session.fill()
            session = chance.choice(sessions)
            try:
                await session.act()
            except AssertionError as error:
                raise AssertionError(f"seed {seed}, command {done}, session {session.number}") from error
        for session in sessions:
            if session.idling:
                await session.act()
            await session.check()
