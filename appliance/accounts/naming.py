"""Requests about mailboxes as names: list, create, delete, rename, subscribe. All are durable when they are answered."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from typing import Final

from appliance.accounts.acl import need, need_outer, rights_of
from appliance.accounts.box import Box
from appliance.accounts.client import AccountError
from appliance.accounts.session import OWNER, Session
from appliance.accounts.state import State
from appliance.kernel.files import Files
from appliance.mailstore import names
from appliance.objects import declarations as d

__all__ = ["create", "delete", "listing", "mailboxes", "rename", "set_subscription", "subscribe", "subscriptions"]

MAX_SUBSCRIPTIONS: Final = 10_000
MAX_NAMES: Final = 100_000


def listing(state: State, session: Session) -> list[tuple[str, bool, bool, str]]:
    """(name, selectable, children, rights) of all names that the session may know of, sorted, INBOX first."""
    rights = {name: rights_of(state, session, box) for name, box in state.boxes.items()}
    every = {name for name in rights if "l" in rights[name]}
    if session.who is None:
        every |= state.folders
    visible = set(every)
    parents: set[str] = set()
    for name in every:
        parents.update(names.outer(name))
    every |= parents
    ordered = sorted(every, key=lambda name: (name != names.INBOX, name))
    return [
        (name, name in state.boxes and name in visible, name in parents, rights.get(name, OWNER)) for name in ordered
    ]


async def mailboxes(state: State, session: Session) -> list[tuple[str, bool, bool, str]]:
    return listing(state, session)


async def create(state: State, session: Session, name: str) -> None:
    if state.single:
        raise AccountError("CANNOT", "This account has only its INBOX")
    folder_only = name.endswith("/") and name.strip("/") != ""
    stem, ending = names.split_format(name.rstrip("/")) if not folder_only else (name, "")
    stem = state.normal(stem)
    need_outer(state, session, stem)
    if stem in state.boxes or (folder_only and stem in state.folders):
        raise AccountError("ALREADYEXISTS", "The mailbox exists")
    need_room(state, stem)
    limit = state.account.settings[d.MAX_MAILBOXES]
    if not folder_only and limit is not None and len(state.boxes) >= limit:
        raise AccountError("LIMIT", "The account may not have more mailboxes")
    if len(state.boxes) + len(state.folders) >= MAX_NAMES:
        raise AccountError("LIMIT", "The account may not have more mailboxes")
    folders = names.outer(stem) + ([stem] if folder_only else [])
    await _make_folders(state, folders)
    if not folder_only:
        made = await state.add_box(stem, ending or state.new_format)
        outer = state.boxes.get(names.parent(stem))
        if outer is not None:
            made.info.acl = dict(outer.info.acl)
        await state.save_info()


def need_room(state: State, name: str, leaving: str = "") -> None:
    """ALREADYEXISTS on a file system that does not tell letters by case, if a name or an outer one differs from an existing one
    by case only; `leaving`: what goes away with its subtree."""
    if not state.caseless:
        return
    known = {}
    for other in (*state.boxes, *state.folders):
        if not leaving or not (other == leaving or other.startswith(leaving + "/")):
            for one in (other, *names.outer(other)):
                known[one.casefold()] = one
    for one in (name, *names.outer(name)):
        if known.get(one.casefold(), one) != one:
            raise AccountError("ALREADYEXISTS", "There is a mailbox whose name differs in case only")


async def _make_folders(state: State, folders: list[str]) -> None:
    missing = [name for name in folders if name not in state.folders]
    if missing:
        await state.shared.disk.run(_mkdirs, [state.folder(name) for name in missing])
        state.folders.update(missing)


def _mkdirs(files: Files, paths: list[str]) -> None:
    for path in paths:
        with suppress(FileExistsError):
            files.mkdir(path)
        files.sync_directory(path.rpartition("/")[0])


async def delete(state: State, session: Session, name: str, subtree: bool = False) -> None:
    name = state.normal(name)
    if name == names.INBOX:
        raise AccountError("CANNOT", "INBOX cannot be deleted")
    if session.who is not None:
        need(state, session, state.find(name), "d")
        need_outer(state, session, name)
        if subtree:
            raise AccountError("NOPERM", "Only the owner can remove a whole folder")
    below = [other for other in state.boxes if other.startswith(name + "/")]
    folders = [other for other in state.folders if other == name or other.startswith(name + "/")]
    if name not in state.boxes and not folders:
        raise AccountError("NONEXISTENT", "There is no such mailbox")
    victims = [name] if name in state.boxes else []
    if subtree:
        victims += below
    elif not victims and (below or len(folders) > 1):
        raise AccountError("INUSE", "The folder is not empty")
    await state.barrier()
    boxes = [state.boxes[victim] for victim in victims]
    gone_folders = sorted(folders, reverse=True) if subtree or (not below and folders == [name]) else []
    await state.shared.disk.run(
        _remove, [box.store.path for box in boxes], [state.folder(folder) for folder in gone_folders]
    )
    for box in boxes:
        _forget(state, box)
    state.folders.difference_update(gone_folders)
    await state.save_info()
    for box in boxes:
        await state.drop_index(box)
        state.publish(box)


def _forget(state: State, box: Box) -> None:
    del state.boxes[box.name]
    state.info.boxes.pop(box.name, None)
    box.views.clear()
    state.used -= box.info.size


def _remove(files: Files, paths: list[str], folders: list[str]) -> None:
    parents = set()
    for path in paths:
        parents.add(path.rpartition("/")[0])
        if path.endswith(".mdir"):
            files.remove_tree(path)
        else:
            files.unlink(path)
    for path in folders:
        with suppress(OSError):  # something strange is in it: it stays
            files.rmdir(path)
            parents.add(path.rpartition("/")[0])
    for parent in parents:
        with suppress(FileNotFoundError):
            files.sync_directory(parent)


async def rename(state: State, session: Session, old: str, new: str, subtree: bool = True) -> None:
    if state.single:
        raise AccountError("CANNOT", "This account has only its INBOX")
    old = state.normal(old)
    new = state.normal(new.rstrip("/") or new)
    if session.who is not None:
        need(state, session, state.find(old), "d")
        need_outer(state, session, old)
        need_outer(state, session, new)
        for name, inner in state.boxes.items():
            if subtree and name.startswith(old + "/"):
                need(state, session, inner, "d")
    if old == names.INBOX:
        if state.external:
            raise AccountError("CANNOT", "This INBOX belongs to other programs too")
        subtree = False
    if old not in state.boxes and old not in state.folders:
        raise AccountError("NONEXISTENT", "There is no such mailbox")
    if new in state.boxes or (subtree and old in state.folders and new in state.folders):
        raise AccountError("ALREADYEXISTS", "The mailbox exists")
    if subtree and new.startswith(old + "/"):
        raise AccountError("CANNOT", "A mailbox cannot be moved below itself")
    if old not in state.boxes and not subtree:
        raise AccountError("NONEXISTENT", "There is no such mailbox")
    need_room(state, new, old)
    await state.barrier()
    await _make_folders(state, names.outer(new))
    moves: list[tuple[str, str]] = []
    boxes: list[tuple[Box, str]] = []
    if old in state.boxes:
        box = state.boxes[old]
        ending = box.store.path[-5:]
        moves.append((box.store.path, state.path(new, ending)))
        boxes.append((box, new))
    folders: list[tuple[str, str]] = []
    if subtree and old in state.folders:
        moves.append((state.folder(old), state.folder(new)))
        folders = [(f, new + f[len(old) :]) for f in state.folders if f == old or f.startswith(old + "/")]
        for name, inner in state.boxes.items():
            if name.startswith(old + "/"):
                boxes.append((inner, new + name[len(old) :]))
    with ExitStack() as stack:
        for box, _ in boxes:
            stack.enter_context(box.moving())
        await state.shared.disk.run(_rename, moves)
        _renamed(state, boxes, folders)
    if old == names.INBOX:
        # Sessions that have INBOX open go on in the new, empty one only after they select it again (RFC 3501, 6.3.5).
        moved = boxes[0][0]
        moved.views.clear()
        await state.add_box(names.INBOX, moved.store.path[-5:])
    await state.save_info()


def _renamed(state: State, boxes: list[tuple[Box, str]], folders: list[tuple[str, str]]) -> None:
    """The names in memory follow those on disk."""
    for before, after in folders:
        state.folders.discard(before)
        state.folders.add(after)
    for box, _ in boxes:
        del state.boxes[box.name]
        state.info.boxes.pop(box.name, None)
    for box, after in boxes:
        before = box.name
        ending = box.store.path[-5:]
        box.name = after
        box.store.path = state.path(after, ending)
        fresh = getattr(box.store, "fresh", None)
        if fresh:
            fresh.clear()
        state.boxes[after] = box
        state.info.boxes[after] = box.info
        state.shared.notices.publish(("mailbox", state.name, before))


def _rename(files: Files, moves: list[tuple[str, str]]) -> None:
    parents = set()
    for source, target in moves:
        files.rename(source, target)
        parents |= {source.rpartition("/")[0], target.rpartition("/")[0]}
    for parent in parents:
        files.sync_directory(parent)


def _owner(session: Session) -> None:
    if session.who is not None:
        raise AccountError("NOPERM", "This is the owner's alone")


def _spelling(name: str) -> str:
    return names.INBOX if name.upper() == names.INBOX else name


async def subscriptions(state: State, session: Session) -> list[str]:
    _owner(session)
    return list(state.info.subscription)


async def subscribe(state: State, session: Session, name: str, on: bool) -> None:
    _owner(session)
    name = _spelling(name)
    known = state.info.subscription
    if (name in known) == on:
        return
    if on:
        if len(known) >= MAX_SUBSCRIPTIONS or not 0 < len(name) <= 1024:
            raise AccountError("LIMIT", "The subscription list takes no more names")
        known.append(name)
    else:
        known.remove(name)
    await state.save_info()


async def set_subscription(state: State, session: Session, wanted: list[str]) -> None:
    _owner(session)
    if len(wanted) > MAX_SUBSCRIPTIONS:
        raise AccountError("LIMIT", "The subscription list takes no more names")
    state.info.subscription = list(dict.fromkeys(_spelling(name) for name in wanted if 0 < len(name) <= 1024))
    await state.save_info()
