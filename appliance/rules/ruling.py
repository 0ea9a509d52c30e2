"""What the rules decided about a message for one account: plain data that local delivery carries out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Kept", "Ruling"]


@dataclass(frozen=True, slots=True)
class Kept:
    """A copy in one mailbox of the account: with these flags (bits of `mailstore.flags`) and fields in front."""

    mailbox: str
    flags: int = 0
    added: bytes = b""


@dataclass(slots=True)
class Ruling:
    """`action`: `keep` stores in the INBOX (or in the mailbox that was addressed) with `flags` and `added`, `discard` does not
    and counts as delivered, `reject` fails with `text`, `later` asks again after `seconds`. Whatever it is, `copies` are
    stored first. The lines of `added` stand behind Return-Path, each with its LF."""

    action: Literal["keep", "discard", "reject", "later"] = "keep"
    text: str = ""
    flags: int = 0
    added: bytes = b""
    copies: list[Kept] = field(default_factory=list)
    seconds: float = 60.0
