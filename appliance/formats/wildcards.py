"""Pictures with `*`: what one star matched (Router records), and any number of stars (rules, domain lists).

A star matches any text, the empty one too. There is no escape and no other special symbol.
"""

from __future__ import annotations

from collections.abc import Iterable


def match(pattern: str, text: str, casefold: bool = True) -> str | None:
    """What the one star of the pattern stands for in the text, in the text's own case; None if it does not match.

    A pattern without a star matches an equal text and gives "". Raises ValueError if there is more than one star.
    """
    head, star, tail = pattern.partition("*")
    if "*" in tail:
        raise ValueError(f"{pattern!r} has more than one '*'")
    subject = text
    if casefold:
        head, tail, subject = head.lower(), tail.lower(), text.lower()
        if len(subject) != len(text):  # a letter whose lower case is two symbols: offsets of the original are unknown
            text = subject
    if not star:
        return "" if subject == head else None
    if len(subject) < len(head) + len(tail) or not (subject.startswith(head) and subject.endswith(tail)):
        return None
    return text[len(head) : len(text) - len(tail)]


def substitute(pattern: str, star: str) -> str:
    """The pattern with every star replaced by what a star matched."""
    return pattern.replace("*", star)


def matches(picture: str, text: str, casefold: bool = True) -> bool:
    """Whether the whole text fits a picture with any number of stars. Time grows with the lengths only."""
    if casefold:
        picture, text = picture.lower(), text.lower()
    head, *middle = picture.split("*")
    if not middle:
        return text == head
    tail = middle.pop()
    position, end = len(head), len(text) - len(tail)
    if end < position or not text.startswith(head) or not text.endswith(tail):
        return False
    for part in middle:
        position = text.find(part, position, end)
        if position < 0:
            return False
        position += len(part)
    return True


def matches_any(pictures: Iterable[str], text: str, casefold: bool = True) -> bool:
    """Whether the text fits at least one of the pictures."""
    return any(matches(picture, text, casefold) for picture in pictures)


def split_list(text: str) -> list[str]:
    """The items of a comma-separated setting such as `office*.company.com, partner.com`: trimmed, empty ones left out."""
    return [item for part in text.split(",") if (item := part.strip())]
