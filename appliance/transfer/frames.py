"""What the transfer room writes into the journal, and reads from it after a start. Each payload is a packed list whose first
item is its version; readers take the items they know.

    M MESSAGE    the message with its recipients; the content too, unless it is in N.msg
    E ENQUEUED   what server rules decided
    D DELIVERED  results of recipients, and what an account has stored
    Q STATUS     recipients that wait, warnings and reports made; a queue that waits
    F FINISHED   the message has left; N.msg may go

Only M is waited for; the others ride with the next flush. Order in the journal does the rest: a D can only be there when the E
and M before it are, so E need not be waited for before a module gets the message, and a lost D means that the message is
routed and delivered again (the account has cut off what no D speaks of). What accounts write about to-be-written mailboxes
(W) is waited for by them once between two of their check-points, so a session alone pays one flush for a message.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from appliance.kernel.journal import Frame, FrameType
from appliance.kernel.packing import Value, pack, unpack
from appliance.transfer.message import Kind, Outcome, QueuedMessage, Recipient, Source, Stored

__all__ = [
    "apply_delivered",
    "apply_enqueued",
    "apply_status",
    "delivered",
    "done",
    "enqueued",
    "finished",
    "message",
    "queue_state",
    "read",
    "read_because_of",
    "read_message",
    "read_stored",
    "status",
]

_VERSION = 1


def message(
    item: QueuedMessage,
    content: bytes | None,
    reported: tuple[int, Sequence[int]] | None = None,
    because_of: tuple[int, str] | None = None,
) -> Frame:
    """M. `reported` (message id, recipient numbers) marks results of another message as told, in the same frame: a report
    and the mark that it was made are durable together or not at all. `because_of` (message id, name) does so for a message
    that was made because of another one."""
    source = item.source
    recipients: list[Value] = [
        [
            recipient.address,
            recipient.notify,
            recipient.orcpt,
            None if recipient.outcome is None else _outcome(recipient.outcome),
            recipient.reported,
            recipient.due,
            recipient.attempts,
            recipient.reason,
            recipient.warned,
            recipient.target,
        ]
        for recipient in item.recipients
    ]
    flags = {"receipt": item.receipt, "test": item.test, "smtputf8": item.smtputf8, "ruled": item.ruled}
    payload: list[Value] = [
        _VERSION,
        item.id,
        item.arrived,
        item.sender,
        [
            source.module,
            source.address,
            source.local_address,
            source.account,
            source.trusted,
            source.client,
            source.mark,
        ],
        recipients,
        item.size,
        item.lines,
        item.ret,
        item.envid,
        item.added_header,
        [name for name, is_set in flags.items() if is_set],
        None if reported is None else [reported[0], list(reported[1])],
        content,
        None if because_of is None else list(because_of),
        None if item.made is None else [[name, number] for name, number in item.made.items()],
    ]
    return Frame(FrameType.MESSAGE, pack(payload))


def enqueued(item: QueuedMessage) -> Frame:
    """E: server rules are done, and what they put on."""
    return Frame(FrameType.ENQUEUED, pack([_VERSION, item.id, item.added_header]))


def _outcome(outcome: Outcome) -> list[Value]:
    return [str(outcome.kind), outcome.code, outcome.text, outcome.remote]


def _read_outcome(fields: Any) -> Outcome:
    kind, code, text, remote = fields[:4]
    return Outcome(Kind(kind), code, text, remote)


def delivered(item: QueuedMessage, recipients: Iterable[Recipient], stored: Stored | None = None) -> Frame:
    """D."""
    results: list[Value] = []
    for recipient in recipients:
        assert recipient.outcome is not None
        results.append([recipient.index, _outcome(recipient.outcome), recipient.reported])
    account, record = (None, None) if stored is None else (stored.account, stored.record)
    return Frame(FrameType.DELIVERED, pack([_VERSION, item.id, results, account, record]))


def status(item: QueuedMessage, recipients: Iterable[Recipient]) -> Frame:
    """Q for recipients."""
    states: list[Value] = [[r.index, r.due, r.attempts, r.reason, r.warned, r.reported, r.target] for r in recipients]
    return Frame(FrameType.STATUS, pack([_VERSION, item.id, states]))


def done(item: QueuedMessage, name: str) -> Frame:
    """Q for something that was done because of the message without making another one: it is remembered under that name."""
    return Frame(FrameType.STATUS, pack([_VERSION, item.id, [], [name]]))


def queue_state(module: str, host: str, until: float, reason: str) -> Frame:
    """Q for a whole queue: it waits until that wall time; 0 ends the wait."""
    return Frame(FrameType.STATUS, pack([_VERSION, 0, module, host, until, reason]))


def finished(item: QueuedMessage) -> Frame:
    """F."""
    return Frame(FrameType.FINISHED, pack([_VERSION, item.id]))


def read(frame: Frame) -> list[Any]:
    """The items of a payload without the version: the message id first. ValueError if it is not understood."""
    fields = unpack(frame.payload)
    if not isinstance(fields, list) or len(fields) < 2 or not isinstance(fields[1], int):
        raise ValueError("a frame that is not understood")
    return fields[1:]


def read_because_of(fields: list[Any]) -> tuple[int, str] | None:
    """What an M says of the message that it was made because of: its id, and the name of what was made."""
    because = fields[13] if len(fields) > 13 else None
    return None if because is None else (because[0], because[1])


def read_message(fields: list[Any]) -> tuple[QueuedMessage, bytes | None, tuple[int, list[int]] | None]:
    """What an M says: message, content, results of another message that it reports."""
    number, arrived, sender, source, people, size, lines, ret, envid, added, flags, reported, content = fields[:13]
    recipients: list[Recipient] = []
    for index, person in enumerate(people):
        address, notify, orcpt, outcome, told, due, attempts, reason, warned = person[:9]
        recipients.append(
            Recipient(
                index,
                address,
                notify,
                orcpt,
                None if outcome is None else _read_outcome(outcome),
                told,
                None,
                due,
                attempts,
                reason,
                warned,
                target=person[9] if len(person) > 9 else "",
            )
        )
    item = QueuedMessage(number, sender, Source(*source[:7]), [*recipients], arrived, size, lines, ret, envid, added)
    for name in flags:
        if name in ("receipt", "test", "smtputf8", "ruled"):
            setattr(item, name, True)
    if len(fields) > 14 and fields[14]:
        item.made = {str(name): int(number) for name, number in fields[14]}
    return item, content, None if reported is None else (reported[0], reported[1])


def apply_enqueued(item: QueuedMessage, fields: list[Any]) -> None:
    item.added_header = fields[1]
    item.ruled = True


def apply_delivered(item: QueuedMessage, fields: list[Any]) -> None:
    for index, outcome, reported in fields[1]:
        recipient = item.recipients[index]
        recipient.outcome = _read_outcome(outcome)
        recipient.reported = reported


def read_stored(fields: list[Any]) -> Stored | None:
    """What a D says that an account has stored."""
    return None if fields[2] is None else Stored(fields[2], fields[3])


def apply_status(item: QueuedMessage, fields: list[Any]) -> None:
    for index, due, attempts, reason, warned, reported, *more in fields[1]:
        recipient = item.recipients[index]
        recipient.target = more[0] if more else recipient.target
        recipient.due, recipient.attempts, recipient.reason = due, attempts, reason
        recipient.warned, recipient.reported = warned, reported
    for name in fields[2] if len(fields) > 2 else ():
        item.remember(str(name), 0)
