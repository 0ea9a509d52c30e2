"""The queue monitors as operations: look at queues and messages, release, reject (manual, chapters 4 and 16)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from appliance.formats.data import Value
from appliance.formats.headers import header_end
from appliance.kernel.clock import Clock
from appliance.kernel.operations import Caller, OperationError, Operations, Right
from appliance.transfer.message import QueuedMessage, Recipient
from appliance.transfer.queues import ModuleQueue, Queues
from appliance.transfer.spool import Spool

__all__ = ["MAX_ITEMS", "declare"]

MAX_ITEMS: Final = 1000
"""Most items of a list; the page says how many there are."""
_SECTION: Final = "Queues"


def _time(clock: Clock, moment: float) -> str:
    """GMT as the other data of commands has it (`yyyymmddhhmmss`)."""
    del clock
    from datetime import UTC, datetime

    return datetime.fromtimestamp(moment, UTC).strftime("%Y%m%d%H%M%S")


def _recipient(clock: Clock, one: Recipient) -> dict[str, Value]:
    result: dict[str, Value] = {
        "Address": one.address,
        "State": "waiting" if one.outcome is None else str(one.outcome.kind),
        "Attempts": str(one.attempts),
    }
    if one.route is not None:
        result["Module"], result["Host"] = one.route.module, one.route.host
    if one.outcome is not None:
        result["Code"], result["Text"] = one.outcome.code, one.outcome.text
    elif one.reason:
        result["Text"] = one.reason
    if one.outcome is None and one.due > clock.now():
        result["Next"] = _time(clock, one.due)
    return result


def _message(clock: Clock, message: QueuedMessage, recipients: Sequence[Recipient]) -> dict[str, Value]:
    return {
        "ID": str(message.id),
        "Sender": message.sender,
        "Size": str(message.size),
        "Arrived": _time(clock, message.arrived),
        "Source": message.source.module,
        "Recipients": [one.address for one in recipients[:MAX_ITEMS]],
    }


def _queue(clock: Clock, queue: ModuleQueue) -> dict[str, Value]:
    result: dict[str, Value] = {
        "Module": queue.module,
        "Host": queue.host,
        "Messages": str(len(queue)),
        "State": "active" if queue.active else "held" if queue.held else "waiting",
    }
    if queue.until > clock.now():
        result["State"] = "delayed"
        result["Next"], result["Text"] = _time(clock, queue.until), queue.reason
    return result


def declare(operations: Operations, spool: Spool, queues: Queues, clock: Clock) -> None:
    """Declare the operations of the queues."""

    def message_of(number: int | str) -> QueuedMessage:
        try:
            message = spool.live.get(int(number))
        except ValueError:
            message = None
        if message is None or message.finished:
            raise OperationError("there is no such message in the Queue")
        return message

    def queue_of(module: str, host: str) -> ModuleQueue:
        queue = queues.get(module.upper(), host) or queues.get(module.upper(), host.lower())
        if queue is None:
            raise OperationError("there is no such queue")
        return queue

    @operations.declare(
        "ListQueues [module]",
        right=Right.MONITOR,
        section=_SECTION,
        summary="The queues of a module, or of all, that have messages; at most 1000.",
        result="array of dictionaries",
    )
    async def list_queues(caller: Caller, module: str = "") -> Value:
        del caller
        return [_queue(clock, queue) for queue in queues.all(module.upper() or None)[:MAX_ITEMS]]

    @operations.declare(
        "ListQueueMessages module host",
        right=Right.MONITOR,
        section=_SECTION,
        summary="The messages of one queue; at most 1000.",
        result="array of dictionaries",
    )
    async def list_queue_messages(caller: Caller, module: str, host: str) -> Value:
        del caller
        queue = queue_of(module, host)
        return [_message(clock, m, queue.recipients(m)) for m in queue.messages[:MAX_ITEMS]]

    @operations.declare(
        "ListQueuedMessages",
        right=Right.MONITOR,
        section=_SECTION,
        summary="The messages of the Server queue: how many there are, and the first 1000.",
        result="dictionary",
    )
    async def list_queued_messages(caller: Caller) -> Value:
        del caller
        live = [message for message in spool.live.values() if not message.done]
        return {
            "Total": str(len(live)),
            "Messages": [_message(clock, message, message.waiting) for message in live[:MAX_ITEMS]],
        }

    @operations.declare(
        "GetQueuedMessage messageID",
        right=Right.MONITOR,
        section=_SECTION,
        summary="One message of the Queue: envelope, header, and the state of each recipient.",
        result="dictionary",
    )
    async def get_queued_message(caller: Caller, message_id: str) -> Value:
        del caller
        message = message_of(message_id)
        try:
            data = await message.head(64 << 10)
        except OSError:
            data = b""
        result = _message(clock, message, message.recipients)
        result["Header"] = data[: header_end(data)].decode("utf-8", "replace")
        result["Recipients"] = [_recipient(clock, one) for one in message.recipients[:MAX_ITEMS]]
        return result

    @operations.declare(
        "ReleaseQueue module host",
        right=Right.RELEASE_QUEUES,
        section=_SECTION,
        summary="Starts a queue at once, whatever holds or delays it.",
    )
    async def release_queue(caller: Caller, module: str, host: str) -> None:
        del caller
        queue = queue_of(module, host)
        queues.release(queue.module, queue.host)

    @operations.declare(
        "ReleaseSMTPQueue queueName",
        right=Right.MONITOR,
        section=_SECTION,
        summary="Starts the queue of a domain at once.",
    )
    async def release_smtp_queue(caller: Caller, queue_name: str) -> None:
        del caller
        queue = queue_of("SMTP", queue_name)
        queues.release(queue.module, queue.host)

    @operations.declare(
        "RejectQueue module host [errorText]",
        right=Right.REJECT_QUEUES,
        section=_SECTION,
        summary="Rejects all messages of a queue; their senders get the text.",
        result="number of recipients",
    )
    async def reject_queue(caller: Caller, module: str, host: str, error_text: str = "rejected by operator") -> Value:
        del caller
        queue = queue_of(module, host)
        return str(sum(queues.reject(message, error_text, queue) for message in queue.messages))

    @operations.declare(
        "RejectQueueMessage messageID [errorText]",
        right=Right.REJECT_QUEUES,
        section=_SECTION,
        summary="Rejects one message in all its queues; its sender gets the text.",
        result="number of recipients",
    )
    async def reject_queue_message(caller: Caller, message_id: str, error_text: str = "rejected by operator") -> Value:
        del caller
        return str(queues.reject(message_of(message_id), error_text))
