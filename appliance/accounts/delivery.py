"""Delivery into an account: what a deliverer hands over, and how the account's task stores what waits, in one hop.

The frame D is the deliverer's: it holds `DeliveryResult.record`, by which a start finds out whether the stores survived, and
makes them again from the message where they did not.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass

from appliance.accounts.box import Box
from appliance.accounts.client import AccountError
from appliance.accounts.frames import Placed, pack_record
from appliance.accounts.state import State
from appliance.accounts.writing import Item, Twins, check_quota, keyword_bits, put, put_file, put_twin
from appliance.kernel.disk import Disk
from appliance.mailstore.mdir import MdirStore

__all__ = ["Delivery", "DeliveryResult", "Store", "Twins", "deliver"]

Content = bytes | Callable[[], AsyncIterator[bytes]]


@dataclass(frozen=True, slots=True)
class Store:
    """One copy of the message in one mailbox. `added`: header lines in front of the content, store form, each with its LF."""

    mailbox: str = "INBOX"
    flags: int = 0
    keywords: tuple[str, ...] = ()
    added: bytes = b""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message for an account. `content`: its store form, or (for large ones) what gives it in pieces; `size` its bytes in
    store form; `date` seconds since 1970, the INTERNALDATE. No `stores`: nothing is written. `make`: missing mailboxes are
    made. `quota` False: the limit is not asked (a redo, or an administrator's notice)."""

    message: int
    content: Content
    size: int
    return_path: bytes = b""
    date: int = 0
    stores: tuple[Store, ...] = (Store(),)
    make: bool = False
    quota: bool = True


@dataclass(frozen=True, slots=True)
class DeliveryResult:
    """`record` goes into the deliverer's frame D; `uids` are those of the stores, in their order."""

    record: bytes
    uids: tuple[int, ...]


async def deliver(
    state: State, deliveries: list[Delivery], twins: Twins
) -> list[DeliveryResult | AccountError | OSError]:
    """Store what waits for the account. Each delivery stands for itself: one that fails does not touch the others."""
    results: list[DeliveryResult | AccountError | OSError | None] = [None] * len(deliveries)
    plan: dict[str, tuple[Box, list[Item]]] = {}
    where: list[list[tuple[str, int]]] = []
    waiting = 0
    for number, delivery in enumerate(deliveries):
        spots: list[tuple[str, int]] = []
        where.append(spots)
        try:
            if not isinstance(delivery.content, bytes):
                results[number] = await _deliver_large(state, delivery, twins)
                continue
            total = delivery.size + max((len(store.added) for store in delivery.stores), default=0)
            if delivery.quota and delivery.stores:
                check_quota(state, waiting + total * len(delivery.stores))
            items = [await _item(state, delivery, store, delivery.content, twins) for store in delivery.stores]
        except (AccountError, OSError) as error:
            results[number] = error
            continue
        waiting += total * len(items)
        for box, item in items:
            entry = plan.setdefault(box.name, (box, []))
            spots.append((box.name, len(entry[1])))
            entry[1].append(item)
    placed: dict[str, list[Placed]] = {}
    if plan:
        try:
            made = await put(state, list(plan.values()), hurry=False)
            placed = dict(zip(plan, made, strict=True))
        except (AccountError, OSError) as error:
            if len(deliveries) > 1:  # one of them may be the cause: try them one by one
                return [(await deliver(state, [delivery], twins))[0] for delivery in deliveries]
            return [error]
    answers: list[DeliveryResult | AccountError | OSError] = []
    for number, done in enumerate(results):
        if done is None:
            mine = [placed[name][at] for name, at in where[number]]
            done = DeliveryResult(pack_record(mine), tuple(place.uid for place in mine))
        answers.append(done)
    return answers


async def _box(state: State, delivery: Delivery, store: Store) -> Box:
    try:
        return state.find(store.mailbox)
    except AccountError:
        if not delivery.make:
            raise
    from appliance.accounts.naming import create
    from appliance.accounts.session import Session

    await create(state, Session(), store.mailbox)
    return state.find(store.mailbox)


async def _item(state: State, delivery: Delivery, store: Store, content: bytes, twins: Twins) -> tuple[Box, Item]:
    box = await _box(state, delivery, store)
    bits = await keyword_bits(state, box, store.keywords) if store.keywords else 0
    item = Item(store.flags, bits, delivery.date, delivery.return_path, content, store.added, delivery.message)
    if isinstance(box.store, MdirStore) and delivery.message:
        item.twins = twins
    return box, item


async def _fetch(disk: Disk, content: AsyncIterator[bytes], path: str) -> None:
    await disk.append(path, b"")
    at = 0
    async for chunk in content:
        await disk.pwrite(path, chunk, at)
        at += len(chunk)


async def _deliver_large(state: State, delivery: Delivery, twins: Twins) -> DeliveryResult:
    """The content goes into a file first: its length is known only at its end, and the account must not wait for it."""
    assert not isinstance(delivery.content, bytes)
    if delivery.quota:
        check_quota(state, delivery.size * len(delivery.stores))
    if not delivery.stores:
        return DeliveryResult(pack_record([]), ())
    path = ""
    disk = state.shared.disk
    placed: list[Placed] = []
    try:
        for store in delivery.stores:
            box, item = await _item(state, delivery, store, b"", twins)
            place = await put_twin(state, box, item)
            if place is None:
                if not path:
                    path = state.temporary()
                    await _fetch(disk, delivery.content(), path)
                place = await put_file(state, box, item, path)
            placed.append(place)
    finally:
        if path:
            with suppress(OSError):
                await disk.unlink(path, missing_ok=True)
    return DeliveryResult(pack_record(placed), tuple(place.uid for place in placed))
