"""Threads of messages: ORDEREDSUBJECT and REFERENCES (RFC 5256, 3), without recursion, for threads can be as long as mailboxes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

MAX_REFERENCES: Final = 100
"""References of one message that count: the last ones."""
_MESSAGE_ID = re.compile(rb"<([^<>\s]{1,900})>")


class Message(NamedTuple):
    """`number` as the answer names it; `date` is when it was sent, in seconds; `subject` the base subject as a key to compare;
    `identifier` b"" for none."""

    number: int
    date: float
    subject: str
    reply: bool
    identifier: bytes = b""
    references: tuple[bytes, ...] = ()


class Node:
    """A message in a thread, or (without one) a place for a message that is not here."""

    __slots__ = ("children", "message", "parent")

    def __init__(self, message: Message | None = None) -> None:
        self.message = message
        self.parent: Node | None = None
        self.children: list[Node] = []

    def key(self) -> tuple[float, int]:
        """By date, and by number where dates are equal; of an empty place, the first child's."""
        node = self
        while node.message is None:
            node = node.children[0]
        return node.message.date, node.message.number

    def first(self) -> Message:
        node = self
        while node.message is None:
            node = node.children[0]
        return node.message

    def adopt(self, child: Node) -> None:
        child.leave()
        child.parent = self
        self.children.append(child)

    def leave(self) -> None:
        if self.parent is not None:
            self.parent.children.remove(self)
            self.parent = None

    def above(self, other: Node) -> bool:
        """Is this the other, or an ancestor of it?"""
        if not self.children:
            return self is other
        node: Node | None = other
        while node is not None:
            if node is self:
                return True
            node = node.parent
        return False


def message_ids(value: bytes | None) -> tuple[bytes, ...]:
    """The message identifiers of a field, the last `MAX_REFERENCES`."""
    return tuple(_MESSAGE_ID.findall(value or b"")[-MAX_REFERENCES:])


def ordered_subject(messages: Iterable[Message]) -> list[Node]:
    """Messages of one base subject are one thread: the first, and all others as its children."""
    roots: dict[str, Node] = {}
    for message in sorted(messages, key=lambda message: (message.subject, message.date, message.number)):
        node = Node(message)
        root = roots.setdefault(message.subject, node)
        if root is not node:
            root.adopt(node)
    return sorted(roots.values(), key=Node.key)


def references(messages: Iterable[Message]) -> list[Node]:
    """The six steps of the algorithm REFERENCES."""
    roots = _pruned(_linked(messages))
    _sort(roots)
    return _gathered(roots)


def _linked(messages: Iterable[Message]) -> list[Node]:
    """Step 1 and 2: parents by their references. The nodes without a parent, each with something in or below it."""
    table: dict[bytes, Node] = {}
    nodes: list[Node] = []

    def known(identifier: bytes) -> Node:
        node = table.get(identifier)
        if node is None:
            node = table[identifier] = Node()
            nodes.append(node)
        return node

    for message in messages:
        node = known(message.identifier) if message.identifier else Node()
        if node.message is not None or not message.identifier:  # none, or one that another message has too
            node = Node()
            nodes.append(node)
        node.message = message
        parent: Node | None = None
        for reference in message.references:
            child = known(reference)
            if parent is not None and child.parent is None and not child.above(parent):
                parent.adopt(child)
            parent = child
        # What this message says of its parent counts more than what others said of it.
        if parent is not None and not node.above(parent):
            parent.adopt(node)
        elif parent is None:
            node.leave()
    return [node for node in nodes if node.parent is None]


def _pruned(roots: list[Node]) -> list[Node]:
    """Step 3: empty places without children go, those with children hand them up; at the top only a single child."""
    order: list[Node] = []
    stack = list(roots)
    while stack:
        node = stack.pop()
        order.append(node)
        stack += node.children
    for node in reversed(order):  # children before their parents
        kept: list[Node] = []
        for child in node.children:
            if child.message is not None:
                kept.append(child)
                continue
            for orphan in child.children:
                orphan.parent = node
            kept += child.children
        node.children = kept
    pruned: list[Node] = []
    for root in roots:
        if root.message is not None or len(root.children) > 1:
            pruned.append(root)
        elif root.children:
            root.children[0].parent = None
            pruned.append(root.children[0])
    return pruned


def _sort(roots: list[Node]) -> None:
    """Step 4 and 6: siblings by date. Children of empty places first, because these count as their first child."""
    stack = list(roots)
    while stack:
        node = stack.pop()
        node.children.sort(key=Node.key)
        stack += node.children
    roots.sort(key=Node.key)


def _gathered(roots: list[Node]) -> list[Node]:
    """Step 5: threads of one subject come together."""
    table: dict[str, Node] = {}
    for root in roots:
        subject = root.first().subject
        if not subject:
            continue
        old = table.get(subject)
        if old is None or _better(root, old):
            table[subject] = root
    gone: set[int] = set()
    known = {id(root) for root in roots}
    for root in roots:
        subject = root.first().subject
        other = table.get(subject) if subject else None
        if other is None or other is root:
            continue
        _merge(other, root, table, subject)
        gone.add(id(root))
        if table[subject] is not other:
            gone.add(id(other))
    result = [root for root in roots if id(root) not in gone]
    result += [node for node in table.values() if node.message is None and id(node) not in known]
    _sort(result)
    return result


def _better(root: Node, old: Node) -> bool:
    """For the table an empty place is better than a message, and a first message better than a reply."""
    if old.message is None:
        return False
    return root.message is None or (old.message.reply and not root.message.reply)


def _merge(other: Node, root: Node, table: dict[str, Node], subject: str) -> None:
    if other.message is None and root.message is None:
        for child in list(root.children):
            other.adopt(child)
    elif other.message is None or (root.message is not None and root.message.reply and not other.message.reply):
        other.adopt(root)
    else:
        both = Node()
        both.adopt(other)
        both.adopt(root)
        table[subject] = both


def render(roots: Sequence[Node], *, named: Callable[[int], bytes] = lambda number: b"%d" % number) -> bytes:
    """`(2)(3 6 (4 23)(44 7 96))`: a chain is written as a row, branches in parentheses (RFC 5256, 4)."""
    out: list[bytes] = []
    for root in roots:
        # Each step is a node to write, or a closing parenthesis.
        stack: list[tuple[Node | None, bool]] = [(root, True)]
        while stack:
            node, opens = stack.pop()
            if node is None:
                out.append(b")")
                continue
            if opens:
                out.append(b"(")
                stack.append((None, False))
            if node.message is not None:
                if not opens:
                    out.append(b" ")
                out.append(named(node.message.number))
            children = node.children
            if len(children) == 1 and node.message is not None:
                stack.append((children[0], False))
            elif children:
                if node.message is not None:
                    out.append(b" ")
                stack += [(child, True) for child in reversed(children)]
    return b"".join(out)
