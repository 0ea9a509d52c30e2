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

    def test(text: str) -> bool:
        for one in each:  # noqa: SIM110 - a generator costs more than the question
            if one(text):
                return True
        return False

    return test


def split_pictures(text: str) -> list[str]:
    """The pictures of an `in` parameter: blanks beside the commas belong to them (manual, chapter 28, Note)."""
    return text.split(",")


def pictures(texts: Iterable[str]) -> Test:
    """Whether one of the pictures fits. Those without a star, and those with one at an end, are looked up with one call for
    all of them, however many there are."""
    exact: set[str] = set()
    begins: list[str] = []
    ends: list[str] = []
    words: list[str] = []
    others: list[Test] = []
    for text in map(str.lower, texts):
        inner = text.strip("*")
        if "*" not in text:
            exact.add(text)
        elif "*" in inner or not inner:
            others.append(picture(text))
        elif text[0] == "*" and text[-1] == "*":
            words.append(inner)
        elif text[0] == "*":
            ends.append(inner)
        else:
            begins.append(inner)
    kinds = sum(map(bool, (exact, begins, ends, words, others)))
    if kinds == 1:
        if exact:
            return next(iter(exact)).__eq__ if len(exact) == 1 else exact.__contains__
        if words:
            return _any_word(tuple(words))
        if others:
            return any_of(others)
    start, end, inside, rest = tuple(begins), tuple(ends), tuple(words), tuple(others)

    def test(text: str) -> bool:
        if text in exact or text.endswith(end) or text.startswith(start):
            return True
        for word in inside:
            if word in text:
                return True
        for fits in rest:  # noqa: SIM110 - a generator costs more than the question
            if fits(text):
                return True
        return False

    return test


def _any_word(words: tuple[str, ...]) -> Test:
    if len(words) == 1:
        word = words[0]
        return lambda text: word in text

    def test(text: str) -> bool:
        for word in words:  # noqa: SIM110 - a generator costs more than the look
            if word in text:
                return True
        return False

    return test


def literal(text: str) -> str:
    """The longest piece of a picture without a star, lower case: what fits the picture has it somewhere."""
    return max(text.lower().split("*"), key=len)
