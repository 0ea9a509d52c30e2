"""Pictures, compiled once: a text with `*` becomes a question about a lower-case string (manual, chapter 28, Rule Conditions).

A set of a thousand rules is asked for each message, so the usual shapes (`*word*`, `word*`, `*word`, `word`) are one call of a
string method. Comparison ignores case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import contains

__all__ = ["Test", "any_of", "literal", "picture", "pictures", "split_pictures"]

Test = Callable[[str], bool]
"""Whether a lower-case string fits."""


def _always(text: str) -> bool:
    del text
    return True


def _never(text: str) -> bool:
    del text
    return False


def picture(text: str) -> Test:
    """The question that one picture asks."""
    head, *middle = text.lower().split("*")
    if not middle:
        return head.__eq__
    tail = middle.pop()
    inner = [part for part in middle if part]
    if not inner:
        if not head and not tail:
            return _always
        if not tail:
            return lambda text: text.startswith(head)
        if not head:
            return lambda text: text.endswith(tail)
    elif len(inner) == 1 and not head and not tail:
        word = inner[0]
        return lambda text: contains(text, word)
    shortest = len(head) + len(tail)

    def fits(text: str) -> bool:
        position, end = len(head), len(text) - len(tail)
        if len(text) < shortest or not text.startswith(head) or not text.endswith(tail):
            return False
        for part in inner:
            position = text.find(part, position, end)
            if position < 0:
                return False
            position += len(part)
        return True

    return fits


def any_of(tests: Iterable[Test]) -> Test:
    """Whether one of them fits."""
    each = tuple(tests)
    if not each:
        return _never
    if len(each) == 1:
        return each[0]
    return lambda text: any(test(text) for test in each)


def split_pictures(text: str) -> list[str]:
    """The pictures of an `in` parameter: blanks beside the commas belong to them (manual, chapter 28, Note)."""
    return text.split(",")


def pictures(texts: Iterable[str]) -> Test:
    """Whether one of the pictures fits; those without a star are looked up at once, however many there are."""
    exact: set[str] = set()
    tests: list[Test] = []
    for text in texts:
        if "*" in text:
            tests.append(picture(text))
        else:
            exact.add(text.lower())
    if exact:
        tests.insert(0, next(iter(exact)).__eq__ if len(exact) == 1 else exact.__contains__)
    return any_of(tests)


def literal(text: str) -> str:
    """The longest piece of a picture without a star, lower case: what fits the picture has it somewhere."""
    return max(text.lower().split("*"), key=len)
