"""The jobs of an open account on its files: what is there, making, syncing and compacting mailboxes."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import TYPE_CHECKING

from appliance.kernel.files import Files
from appliance.mailstore import names
from appliance.mailstore.external import ExternalStore
from appliance.mailstore.loading import stamp_of
from appliance.mailstore.mbox import MboxStore
from appliance.mailstore.store import Store
from appliance.mailstore.table import Counts, Table
from appliance.objects.domain import TEXT

if TYPE_CHECKING:
    from appliance.accounts.state import State

__all__ = ["changed", "compact", "create", "look", "settle", "stamps", "sync"]


def look(
    files: Files, state: State
) -> tuple[bytes | None, dict[str, str], list[str], dict[str, tuple[int, float]], bool]:
    account = state.account
    data: bytes | None = None
    try:
        data = files.read_bytes(account.file("info"))
    except FileNotFoundError:
        pass
    directory, _, prefix = account.file("").rpartition("/")
    for entry in files.listdir(directory):
        if entry.startswith(prefix) and entry.endswith(".tmp") and entry[len(prefix) : -4].isdecimal():
            files.unlink(f"{directory}/{entry}")
    found: dict[str, str] = {}
    folders: list[str] = []
    if state.single:
        ending = ".mbox" if account.kind == TEXT else ".mdir"
        if files.exists(account.file(ending[1:])):
            found[names.INBOX] = ending
    else:
        found, folders = names.scan(files, account.directory)
    if state.external:
        found.pop(names.INBOX, None)
        if files.exists(state.external):
            found[names.INBOX] = ".mbox"
    stamps = {name: stamp_of(files, state.store_of(name, ending)) for name, ending in found.items()}
    settings = account.file("settings")
    head, _, tail = settings.rpartition("/")
    caseless = files.exists(settings) and files.exists(f"{head}/{tail.swapcase()}")
    return data, found, folders, stamps, caseless


def changed(files: Files, store: ExternalStore) -> bool:
    return store.changed()


def create(files: Files, store: Store) -> tuple[int, float]:
    store.create(files)
    files.sync_directory(store.path.rpartition("/")[0])
    return stamp_of(files, store)


def sync(files: Files, stores: Iterable[Store]) -> None:
    for store in stores:
        try:
            store.sync(files)
        except FileNotFoundError:
            pass  # it was deleted meanwhile


def settle(files: Files, table: Table, modseq: int, recent_from: int) -> tuple[int, Counts]:
    return table.settle(modseq), table.count(recent_from)


def stamps(files: Files, stores: list[tuple[str, Store]]) -> dict[str, tuple[int, float]]:
    result = {}
    for name, store in stores:
        try:
            result[name] = stamp_of(files, store)
        except FileNotFoundError:
            pass
    return result


def compact(files: Files, store: Store, without: set[int], old: array[int]) -> tuple[array[int], tuple[int, float]]:
    assert isinstance(store, MboxStore)
    places = store.compact(files, without)
    return array("q", (places.get(place, place) for place in old)), stamp_of(files, store)
