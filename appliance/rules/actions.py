"""The actions: which there are, who may use them, and how their parameters are checked when a rule is saved."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

from appliance.formats.addresses import AddressError, Path, parse_path
from appliance.formats.charsets import find_charset
from appliance.kernel.helpers import split_command
from appliance.mailstore.flags import ANSWERED, DELETED, DRAFT, FLAGGED, MEDIA, REDIRECTED, SEEN
from appliance.protocols.imap.names import encode_utf7
from appliance.rules.model import Action, Level

__all__ = [
    "ACTIONS",
    "ActionKind",
    "Command",
    "Grant",
    "MailText",
    "check_action",
    "find_action",
    "parse_addresses",
    "parse_command",
    "parse_mail_text",
    "parse_marks",
    "parse_store",
]

MAX_ADDRESSES: Final = 100
_FIELD: Final = re.compile(r"[!-9;-~]+[ \t]*:")
_CHARSET: Final = re.compile(r"\[([A-Za-z0-9][A-Za-z0-9_.:+()-]{0,79})\]")
_TAG: Final = re.compile(r"\s*\[(FILE|RETPATH|RCPT|STDERR)\]", re.IGNORECASE)
_LIST_NAME: Final = re.compile(r"[^\x00-\x1f#/~]{1,128}")


class Grant(IntEnum):
    """What a user may put into rules of his own (manual, chapter 20, Processing Options); the words of the setting."""

    NO = 0
    FILTER_ONLY = 1
    ALL_BUT_EXEC = 2
    ANY = 3
    ADMINISTRATOR = 4
    """Nobody's setting: what only an administrator of the server may write."""


@dataclass(frozen=True, slots=True)
class ActionKind:
    """One sort of action. `check` gives the parameter as it is kept, or raises ValueError for people. `control` says how a form
    asks for it: `none`, `line` or `text`."""

    name: str
    grant: Grant
    control: str
    check: Callable[[str, Level], str]
    server_only: bool = False
    ends: bool = False
    hint: str = ""


def _nothing(text: str, level: Level) -> str:
    del level
    if text.strip():
        raise ValueError("it has no parameter")
    return ""


def _any_text(text: str, level: Level) -> str:
    del level
    return text.strip()


# -- mailboxes, marks, lists ------------------------------------------------------------------------------------------

_MARKS: Final = {
    "read": (SEEN, True),
    "seen": (SEEN, True),
    "unread": (SEEN, False),
    "unseen": (SEEN, False),
    "flagged": (FLAGGED, True),
    "unflagged": (FLAGGED, False),
    "answered": (ANSWERED, True),
    "unanswered": (ANSWERED, False),
    "deleted": (DELETED, True),
    "undeleted": (DELETED, False),
    "draft": (DRAFT, True),
    "undraft": (DRAFT, False),
    "redirected": (REDIRECTED, True),
    "unredirected": (REDIRECTED, False),
    "media": (MEDIA, True),
    "unmedia": (MEDIA, False),
}


def parse_marks(text: str) -> tuple[int, int]:
    """The flags that are set and those that are taken away, the later word first. ValueError names the wrong word."""
    put = taken = 0
    for word in text.split(","):
        found = _MARKS.get(word.strip().lower())
        if found is None:
            raise ValueError(
                f"{word.strip()[:40]!r} is not a mark: Read, Unread, Flagged, Unflagged, Answered, Unanswered"
            )
        bit, is_set = found
        if is_set:
            put, taken = put | bit, taken & ~bit
        else:
            put, taken = put & ~bit, taken | bit
    return put, taken


def _marks(text: str, level: Level) -> str:
    del level
    parse_marks(text)
    return text.strip()


def parse_store(text: str) -> tuple[str, str]:
    """Account (empty: the rule's own) and mailbox of a Store in parameter. ValueError."""
    text = text.strip()
    user = ""
    if text.startswith("~"):
        user, slash, text = text[1:].partition("/")
        if not user or not slash:
            raise ValueError("~account/mailbox is expected")
    if not text or len(text) > 1024 or any(symbol < " " for symbol in text):
        raise ValueError("the name of a mailbox is expected")
    return user, text if text.isascii() else encode_utf7(text)


def _store(text: str, level: Level) -> str:
    user, _ = parse_store(text)
    if not user and level is Level.SERVER:
        raise ValueError("in a rule of the server the account has to be named: ~account/mailbox")
    return text.strip()


def _list_name(text: str, level: Level) -> str:
    del level
    name = text.strip().removeprefix("#")
    if name and not _LIST_NAME.fullmatch(name):
        raise ValueError("the name of a string list is expected")
    return name


# -- addresses and texts of messages ----------------------------------------------------------------------------------


def parse_addresses(text: str) -> list[str]:
    """The addresses of a list with commas, each `user`, `user@domain` or `Name <user@domain>`. ValueError names the wrong one."""
    found: dict[str, None] = {}
    for part in _split(text):
        word = part.strip()
        if not word:
            continue
        if word.endswith(">") and "<" in word:
            word = word[word.rindex("<") + 1 : -1].strip()
        try:
            path = parse_path(f"<{word}>".encode("utf-8", "surrogateescape"))
        except AddressError:
            path = Path("", "")
        if not path.local or path.route:
            raise ValueError(f"{part.strip()[:80]!r} is not an address")
        found[path.address] = None
    if not found:
        raise ValueError("an address is expected")
    if len(found) > MAX_ADDRESSES:
        raise ValueError(f"at most {MAX_ADDRESSES} addresses")
    return list(found)


def _split(text: str) -> list[str]:
    """At commas and line ends outside of quotes."""
    return re.findall(r'(?:"[^"]*"|[^,\n"]|")+', text.replace("\r", "\n"))


def _addresses(text: str, level: Level) -> str:
    del level
    parse_addresses(text)
    return text.strip()


class MailText(NamedTuple):
    """The text of an answer: its charset (empty: UTF-8 where it is needed), its own header fields or None, its body."""

    charset: str
    header: str | None
    body: str


def parse_mail_text(text: str, *, has_header: bool = False) -> MailText:
    """`[charset]`, then with `+` (or always, `has_header`) fields up to an empty line, then the body. ValueError."""
    charset = ""
    found = _CHARSET.match(text)
    if found is not None:
        if find_charset(found[1]) is None:
            raise ValueError(f"the charset {found[1]!r} is not known")
        charset, text = found[1], text[found.end() :]
    if text.startswith("+"):
        text = text[1:].removeprefix("\n") if has_header else text[1:]
        has_header = True
    if not has_header:
        return MailText(charset, None, text)
    header, _, body = text.lstrip("\n").partition("\n\n")
    check_fields(header)
    return MailText(charset, header, body)


def check_fields(header: str) -> None:
    """Whether every line is a header field or the continuation of one. ValueError names the line."""
    for number, line in enumerate(header.split("\n"), 1):
        if not _FIELD.match(line) and not (number > 1 and line[:1] in (" ", "\t") and line.strip()):
            raise ValueError(f"line {number} of the header, {line[:40]!r}, is not a field (Name: value)")


def _reply(text: str, level: Level) -> str:
    del level
    parse_mail_text(text)
    return text


def _reaction(text: str, level: Level) -> str:
    del level
    mail = parse_mail_text(text, has_header=True)
    names = {line.partition(":")[0].strip().lower() for line in (mail.header or "").split("\n")}
    if not names & {"to", "cc", "bcc"}:
        raise ValueError("the header has to name somebody in To, Cc or Bcc")
    return text


def _header_fields(text: str, level: Level) -> str:
    del level
    text = text.strip("\n")
    if len(text) > 32 << 10:
        raise ValueError("at most 32K of header fields")
    check_fields(text)
    return text


# -- programs ---------------------------------------------------------------------------------------------------------


class Command(NamedTuple):
    """A command line without its tags."""

    words: list[str]
    file: bool
    return_path: bool
    recipients: bool
    errors: bool


def parse_command(text: str) -> Command:
    """The tags in any order, then the program and its parameters. ValueError."""
    tags: set[str] = set()
    while (found := _TAG.match(text)) is not None:
        tags.add(found[1].upper())
        text = text[found.end() :]
    try:
        words = split_command(text)
    except ValueError as error:
        raise ValueError(f"the command cannot be read: {error}") from None
    if not words:
        raise ValueError("the program is missing")
    return Command(words, "FILE" in tags, "RETPATH" in tags, "RCPT" in tags, "STDERR" in tags)


def _command(text: str, level: Level) -> str:
    command = parse_command(text)
    if level is not Level.SERVER and (command.file or command.recipients):
        raise ValueError("[FILE] and [RCPT] are for rules of the server only")
    return text.strip()


_KINDS: Final = (
    ActionKind("Stop Processing", Grant.FILTER_ONLY, "none", _nothing, ends=True),
    ActionKind("Discard", Grant.FILTER_ONLY, "none", _nothing, ends=True),
    ActionKind("Reject", Grant.FILTER_ONLY, "line", _any_text, ends=True, hint="text of the error report"),
    ActionKind("Mark", Grant.FILTER_ONLY, "line", _marks, hint="Read, Flagged"),
    ActionKind("Add Headers", Grant.FILTER_ONLY, "text", _header_fields, hint="X-Special-Processing: order"),
    ActionKind("Store in", Grant.FILTER_ONLY, "line", _store, hint="mailbox, or ~account/mailbox"),
    ActionKind("Redirect to", Grant.ALL_BUT_EXEC, "line", _addresses, hint="addresses, separated by commas"),
    ActionKind("Forward to", Grant.ALL_BUT_EXEC, "line", _addresses, hint="addresses, separated by commas"),
    ActionKind("Mirror to", Grant.ALL_BUT_EXEC, "line", _addresses, hint="addresses, separated by commas"),
    ActionKind("Reply with", Grant.ALL_BUT_EXEC, "text", _reply, hint="text; ^S is the subject, ^F the author"),
    ActionKind("Reply to All with", Grant.ALL_BUT_EXEC, "text", _reply, hint="text; ^S is the subject, ^F the author"),
    ActionKind("React with", Grant.ALL_BUT_EXEC, "text", _reaction, hint="header fields, an empty line, the text"),
    ActionKind("Remember 'From' in", Grant.ALL_BUT_EXEC, "line", _list_name, hint="name of a string list"),
    ActionKind("Execute", Grant.ANY, "line", _command, hint="program and parameters"),
    ActionKind("FingerNotify", Grant.ANY, "line", _any_text, hint="network address"),
    ActionKind("ExternalFilter", Grant.ADMINISTRATOR, "line", _any_text, server_only=True, hint="name of the filter"),
    ActionKind("Write To Log", Grant.ADMINISTRATOR, "line", _any_text, hint="text of the record"),
)
ACTIONS: Final = {kind.name: kind for kind in _KINDS}
_BY_WORD: Final = {kind.name.lower(): kind for kind in _KINDS} | {
    "add header": ACTIONS["Add Headers"],
    "add headers": ACTIONS["Add Headers"],
    "redirect": ACTIONS["Redirect to"],
    "forward": ACTIONS["Forward to"],
    "mirror": ACTIONS["Mirror to"],
    "reply": ACTIONS["Reply with"],
    "reply with": ACTIONS["Reply with"],
    "stop": ACTIONS["Stop Processing"],
    "store": ACTIONS["Store in"],
    "external filter": ACTIONS["ExternalFilter"],
}


def find_action(name: str) -> ActionKind | None:
    """The sort of that name, in any case of letters."""
    return _BY_WORD.get(" ".join(name.split()).lower())


def check_action(action: Action, level: Level) -> tuple[Action, ActionKind]:
    """The action with its words as they are written properly. Raises ValueError for people."""
    kind = find_action(action.name)
    if kind is None:
        raise ValueError(f"there is no action {action.name[:60]!r}")
    if kind.server_only and level is not Level.SERVER:
        raise ValueError(f"the action {kind.name} is for rules of the server only")
    if kind.name == "Remember 'From' in" and level is Level.SERVER:
        raise ValueError(f"the action {kind.name} is for rules of accounts and domains")
    try:
        return Action(kind.name, kind.check(action.parameter, level)), kind
    except ValueError as error:
        raise ValueError(f"{kind.name}: {error}") from None
