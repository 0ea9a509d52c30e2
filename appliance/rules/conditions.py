"""The conditions: which there are, how each is checked when a rule is saved, and what it asks of a message.

`compile_condition` makes a question of each condition once; a message is then only asked.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from appliance.rules.model import Condition, Level
from appliance.rules.pictures import Test, literal, picture, pictures, split_pictures
from appliance.rules.subject import Subject

__all__ = ["CONDITIONS", "OPERATIONS", "ConditionKind", "Question", "compile_condition", "find_condition"]

Question = Callable[[Subject], bool]

_TEXT: Final = ("is", "is not", "in", "not in")
_ORDER: Final = ("is", "is not", "less than", "greater than")
OPERATIONS: Final = ("is", "is not", "in", "not in", "less than", "greater than")

_SIZE: Final = re.compile(r"\s*([0-9]{1,15})\s*([kKmM]?)[bB]?\s*")
_TIME: Final = re.compile(r"\s*([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?\s*(am|pm)?\s*", re.IGNORECASE)
_DATE: Final = re.compile(
    r"\s*([0-9]{1,2})[\s-]+([A-Za-z]{3})[\s-]+([0-9]{4})"
    r"(?:\s+([0-9]{1,2}):([0-9]{2})(?::([0-9]{2})(?:\s*([+-][0-9]{4}))?)?)?\s*"
)
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


@dataclass(frozen=True, slots=True)
class ConditionKind:
    """One sort of condition. `make` gives the question, or raises ValueError with what is wrong with the parameter."""

    name: str
    operations: tuple[str, ...]
    make: Callable[[str, str, str], Question]
    server_only: bool = False
    example: str = ""
    routed: bool = False
    """Needs to know where the recipients are routed to."""


# -- strings ----------------------------------------------------------------------------------------------------------


def _string_test(operation: str, parameter: str) -> tuple[Test | None, str, bool]:
    """The test, or the name of the list that has it, and whether the answer is turned round."""
    negative = operation.endswith("not") or operation.startswith("not")
    if "in" in operation.split():
        if parameter.startswith("#"):
            name = parameter[1:].strip()
            if not name:
                raise ValueError("the name of the string list is missing behind #")
            return None, name, negative
        return pictures(map(_bare, split_pictures(parameter))), "", negative
    return picture(_bare(parameter)), "", negative


def _bare(text: str) -> str:
    """Without the angle brackets of an envelope address."""
    return text[1:-1] if text.startswith("<") and text.endswith(">") else text


def _some(kind: str, operation: str, parameter: str) -> Question:
    """Met if one of the strings meets it; with none it is not met."""
    test, listed, negative = _string_test(operation, parameter)
    if test is None:

        def ask_list(subject: Subject) -> bool:
            within = subject.lists(listed)
            return any(within(text) != negative for text in subject.values(kind))

        return ask_list
    fits = test

    # Plain loops and no calls between: this is what a thousand rules spend their time with.
    if negative:

        def ask_not(subject: Subject) -> bool:
            for text in subject.known.get(kind) or subject.values(kind):  # noqa: SIM110
                if not fits(text):
                    return True
            return False

        return ask_not

    def ask(subject: Subject) -> bool:
        for text in subject.known.get(kind) or subject.values(kind):  # noqa: SIM110
            if fits(text):
                return True
        return False

    return ask


def _every(kind: str, operation: str, parameter: str) -> Question:
    """Met if all of the strings meet it, or if there are none."""
    test, listed, negative = _string_test(operation, parameter)
    if test is None:

        def ask_list(subject: Subject) -> bool:
            within = subject.lists(listed)
            return all(within(text) != negative for text in subject.values(kind))

        return ask_list
    fits = test
    if negative:
        return lambda subject: not any(map(fits, subject.values(kind)))
    return lambda subject: all(map(fits, subject.values(kind)))


def _field_picture(text: str) -> Question:
    """Whether a header line fits: only the lines of one field if the picture begins with its name, and none at all if a
    piece of the picture is nowhere in the header."""
    fits, piece = picture(text), literal(text)
    head = text.partition("*")[0]
    name = head.partition(":")[0].strip().lower() if ":" in head else ""
    if name:
        return lambda subject: any(map(fits, subject.lines(name)))
    return lambda subject: subject.may_have(piece) and any(map(fits, subject.lines("")))


def _header_field(kind: str, operation: str, parameter: str) -> Question:
    """`is`, `in`: the header has such a line; `is not`, `not in`: it has none."""
    del kind
    test, listed, negative = _string_test(operation, parameter)
    if test is None:
        return lambda subject: any(map(subject.lists(listed), subject.lines(""))) != negative
    texts = split_pictures(parameter) if "in" in operation.split() else [parameter]
    questions = tuple(_field_picture(text) for text in texts)
    if len(questions) == 1:
        question = questions[0]
        return (lambda subject: not question(subject)) if negative else question
    return lambda subject: any(question(subject) for question in questions) != negative


# -- numbers, times, days ---------------------------------------------------------------------------------------------


def _size(kind: str, operation: str, parameter: str) -> Question:
    del kind
    found = _SIZE.fullmatch(parameter)
    if found is None:
        raise ValueError(f"{parameter[:40]!r} is not a size: 30000, 100K or 5M is expected")
    size = int(found[1]) * {"": 1, "k": 1 << 10, "m": 1 << 20}[found[2].lower()]
    if operation == "less than":
        return lambda subject: subject.envelope.size < size
    if operation == "greater than":
        return lambda subject: subject.envelope.size > size
    return lambda subject: (subject.envelope.size == size) == (operation == "is")


def _human(kind: str, operation: str, parameter: str) -> Question:
    del kind, operation, parameter
    return Subject.is_human


def _time_of_day(kind: str, operation: str, parameter: str) -> Question:
    del kind
    found = _TIME.fullmatch(parameter)
    trouble = ValueError(f"{parameter[:40]!r} is not a time: 8:15am or 17:30 is expected")
    if found is None:
        raise trouble
    hour, minute, second, half = int(found[1]), int(found[2]), int(found[3] or 0), (found[4] or "").lower()
    if half:
        if not 1 <= hour <= 12:
            raise trouble
        hour = hour % 12 + (12 if half == "pm" else 0)
    if hour > 23 or minute > 59 or second > 59:
        raise trouble
    moment = hour * 3600 + minute * 60 + second
    step = 1 if found[3] else 60  # "is" means that minute, unless seconds are given

    def now(subject: Subject) -> int:
        when = subject.envelope.moment
        return when.hour * 3600 + when.minute * 60 + when.second

    if operation == "less than":
        return lambda subject: now(subject) < moment
    if operation == "greater than":
        return lambda subject: now(subject) > moment
    return lambda subject: (now(subject) // step == moment // step) == (operation == "is")


def _current_date(kind: str, operation: str, parameter: str) -> Question:
    del kind
    found = _DATE.fullmatch(parameter)
    trouble = ValueError(f"{parameter[:40]!r} is not a date: 20 Jun 2026 or 27 Jun 2026 15:20:00 is expected")
    if found is None or found[2].lower() not in _MONTHS:
        raise trouble
    day, year = int(found[1]), int(found[3])
    hour, minute, second = (int(found[at] or 0) for at in (4, 5, 6))
    month = _MONTHS.index(found[2].lower()) + 1
    try:
        if found[7]:
            zone = datetime.strptime(found[7], "%z").tzinfo
            there = datetime(year, month, day, hour, minute, second, tzinfo=zone)
            there.utctimetuple()
            moment: datetime | None = there
        else:
            moment = None
        naive = datetime(year, month, day, hour, minute, second)
    except (ValueError, OverflowError):
        raise trouble from None

    def compared(subject: Subject) -> tuple[datetime, datetime]:
        """The server's time and the one that was given, in the zone of the latter."""
        now = subject.envelope.moment
        if moment is not None and now.tzinfo is not None:
            return now.astimezone(moment.tzinfo).replace(tzinfo=None), naive
        return now.replace(tzinfo=None), naive

    def ask(subject: Subject) -> bool:
        now, then = compared(subject)
        now = now.replace(microsecond=0)
        if operation == "less than":
            return now < then
        if operation == "greater than":
            return now > then
        if found[4] is None:
            same = now.date() == then.date()
        elif found[6] is None:
            same = now.replace(second=0) == then
        else:
            same = now == then
        return same == (operation == "is")

    return ask


def _current_day(kind: str, operation: str, parameter: str) -> Question:
    del kind
    negative = "not" in operation.split()

    def today(subject: Subject) -> int:
        return subject.envelope.moment.isoweekday() % 7

    if "in" in operation.split() and parameter.startswith("#"):
        _, listed, _ = _string_test(operation, parameter)

        def ask_list(subject: Subject) -> bool:
            within, day = subject.lists(listed), today(subject)
            return (within(str(day)) or within(_DAYS[day])) != negative

        return ask_list
    days: set[int] = set()
    for word in parameter.split(",") if "in" in operation.split() else [parameter]:
        text = word.strip().lower()
        if text in _DAYS:
            days.add(_DAYS.index(text))
        elif len(text) == 1 and text in "0123456":
            days.add(int(text))
        else:
            raise ValueError(
                f"{word.strip()[:20]!r} is not a day: 0 to 6 or Sun, Mon, Tue, Wed, Thu, Fri, Sat is expected"
            )
    return lambda subject: (today(subject) in days) != negative


_KINDS: Final = (
    ConditionKind("From", _TEXT, _some, example="*@*example.com"),
    ConditionKind("Sender", _TEXT, _some, example="*list*"),
    ConditionKind("Reply-To", _TEXT, _some),
    ConditionKind("To", _TEXT, _some),
    ConditionKind("Cc", _TEXT, _some),
    ConditionKind("Any To or Cc", _TEXT, _some),
    ConditionKind("Each To or Cc", _TEXT, _every, example="*@mycompany.com,*@mydept.mycompany.com"),
    ConditionKind("Return-Path", _TEXT, _some),
    ConditionKind("'From' Name", _TEXT, _some, example="*J. Smith*"),
    ConditionKind("Subject", _TEXT, _some, example="*urgent*"),
    ConditionKind("Message-ID", _TEXT, _some, example="*@*"),
    ConditionKind("Message Size", _ORDER, _size, example="100K"),
    ConditionKind("Human Generated", (), _human),
    ConditionKind("Header Field", _TEXT, _header_field, example="X-Mailer: Some*"),
    ConditionKind("Any Recipient", _TEXT, _some, example="john+jokes@*"),
    ConditionKind("Each Recipient", _TEXT, _every),
    ConditionKind("Time Of Day", _ORDER, _time_of_day, example="5:15pm"),
    ConditionKind("Current Date", _ORDER, _current_date, example="20 Jun 2026"),
    ConditionKind("Current Day", _TEXT, _current_day, example="Sat,Sun"),
    ConditionKind("Any Route", _TEXT, _some, server_only=True, routed=True),
    ConditionKind("Each Route", _TEXT, _every, server_only=True, routed=True),
)
CONDITIONS: Final = {kind.name: kind for kind in _KINDS}
_BY_WORD: Final = {kind.name.lower(): kind for kind in _KINDS}


def find_condition(name: str) -> ConditionKind | None:
    """The sort of that name, in any case of letters."""
    return _BY_WORD.get(" ".join(name.split()).lower())


def compile_condition(condition: Condition, level: Level) -> tuple[Condition, Question, ConditionKind]:
    """The condition with its words as they are written properly, and its question. Raises ValueError for people."""
    kind = find_condition(condition.name)
    if kind is None:
        raise ValueError(f"there is no condition {condition.name[:60]!r}")
    if kind.server_only and level is not Level.SERVER:
        raise ValueError(f"the condition {kind.name} is for rules of the server only")
    if not kind.operations:
        return Condition(kind.name), kind.make(kind.name, "", ""), kind
    word = " ".join(condition.operation.split()).lower()
    if word not in kind.operations:
        raise ValueError(
            f"{kind.name}: {condition.operation[:40]!r} is not one of its operations: {', '.join(kind.operations)}"
        )
    try:
        question = kind.make(kind.name, word, condition.parameter)
    except ValueError as error:
        raise ValueError(f"{kind.name}: {error}") from None
    return Condition(kind.name, word, condition.parameter), question, kind
