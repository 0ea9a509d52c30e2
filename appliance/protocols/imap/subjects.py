"""The base subject: what is left of a Subject without the marks of replies and forwards (RFC 5256, 2.1)."""

from __future__ import annotations

import re
from typing import Final

MAX_SUBJECT: Final = 1000
"""Characters that are looked at."""

_SPACES = re.compile(r"[ \t\r\n]+")
_TRAILER = re.compile(r"(?:\(fwd\)|[ \t])+\Z", re.I)
_BLOB: Final = r"\[[^\[\]]*\][ \t]*"
_LEADER = re.compile(rf"(?:{_BLOB})*(?:re|fwd?)[ \t]*(?:{_BLOB})?:|[ \t]+", re.I)
_ONE_BLOB = re.compile(_BLOB)


def base_subject(subject: str) -> tuple[str, bool]:
    """The base of a decoded subject, and whether it was a reply or a forward."""
    text = _SPACES.sub(" ", subject[:MAX_SUBJECT])
    reply = False
    while True:
        text, cut = _without_trailer(text)
        reply = reply or cut
        text, cut = _without_leaders(text)
        reply = reply or cut
        if not (text[:5].lower() == "[fwd:" and text.endswith("]")):
            return text, reply
        text, reply = text[5:-1], True


def _without_trailer(text: str) -> tuple[str, bool]:
    found = _TRAILER.search(text[-200:])
    if found is None:
        return text, False
    return text[: len(text) - len(found[0])], "(" in found[0]


def _without_leaders(text: str) -> tuple[str, bool]:
    at, reply = 0, False
    while True:
        leader = _LEADER.match(text, at)
        if leader is not None:
            reply = reply or leader[0].endswith(":")
            at = leader.end()
            continue
        blob = _ONE_BLOB.match(text, at)
        # A blob goes only if something is left (RFC 5256, 2.1, step 4).
        if blob is None or blob.end() == len(text):
            return text[at:], reply
        at = blob.end()
