"""What actions do beyond the message: submit messages, store in other accounts, start programs, ask filters, remember authors.

Each of them has a name in the journal (owner, rule, number of the action), so that an action that was done is not done again when
the rules of the message are asked again, after a delay or a restart. A message is submitted together with that name; a program is
noted as soon as it has ended well, so one that a crash interrupts is started again.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import trio

from appliance.accounts.acl import effective
from appliance.accounts.client import AccountError
from appliance.accounts.delivery import Delivery, Store
from appliance.accounts.gate import Accounts
from appliance.accounts.state import State
from appliance.formats.compose import text_field
from appliance.formats.headers import header_end
from appliance.kernel.clock import Clock
from appliance.kernel.helpers import Finished, HelperError, Helpers
from appliance.kernel.journal import JournalError
from appliance.kernel.log import Logger
from appliance.objects import declarations as d
from appliance.objects.domain import Account
from appliance.objects.domains import Domains
from appliance.rules.actions import Command, parse_command, parse_store
from appliance.rules.answers import NoAnswer, reaction_to, reply_to
from appliance.rules.compiling import CompiledRule
from appliance.rules.engine import ActionFailed, Run
from appliance.rules.filtering import Filters
from appliance.rules.lists import StringLists
from appliance.rules.model import Action
from appliance.rules.notifier import Notifier
from appliance.rules.outgoing import Identity, Outgoing, copy_of, has_mark, marks
from appliance.rules.ruling import Kept
from appliance.rules.subject import address_of
from appliance.transfer.message import Envelope, Kind, Outcome, QueuedMessage, Source, Stored
from appliance.transfer.receiver import Malformed, NoSpace, TooLarge
from appliance.transfer.transfer import Transfer

__all__ = ["MAX_HEADER", "Doing", "Workshop", "header_lines", "header_of"]

MAX_HEADER: Final = (2 << 20) + (256 << 10)
PROGRAM_SECONDS: Final = 120.0
PROGRAM_OUTPUT: Final = 4096
PROGRAMS: Final = 10
"""Programs of the server's rules that run at a time."""
Content = bytes | Callable[[], AsyncIterator[bytes]]


@dataclass(slots=True)
class Workshop:
    """What actions work with; `content` gives what is stored of a message (`modules.local.content.content_of`)."""

    domains: Domains
    accounts: Accounts
    transfer: Transfer
    helpers: Helpers
    notifier: Notifier
    lists: StringLists
    clock: Clock
    base: str
    content: Callable[[QueuedMessage], Awaitable[Content]]
    filters: Filters | None = None
    programs: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(PROGRAMS))


async def header_of(message: QueuedMessage) -> bytes:
    """The message's header with its empty line. OSError."""
    data = message.held
    if data is None:
        data = await message.head()
        end = header_end(data)
        if end == len(data) < message.size:
            data = await message.head(MAX_HEADER)
    return data[: header_end(data)]


class Doing:
    """The doer for one message and one owner of rules; `account` is None for the server's."""

    def __init__(
        self, shop: Workshop, message: QueuedMessage, identity: Identity, account: Account | None, log: Logger
    ) -> None:
        self._shop = shop
        self._message = message
        self._identity = identity
        self._account = account
        self._log = log

    async def do(self, run: Run, rule: CompiledRule, number: int, action: Action) -> None:
        """Raises ActionFailed."""
        name = action.name
        try:
            if name == "Add Headers":
                self._add(run, header_lines(action.parameter))
            elif name == "Store in":
                await self._store(run, rule, number, action.parameter)
            elif name in ("Redirect to", "Forward to", "Mirror to"):
                await self._send_on(run, rule, number, action)
            elif name in ("Reply with", "Reply to All with", "React with"):
                await self._answer(run, rule, number, action)
            elif name == "Remember 'From' in":
                await self._remember(run, action.parameter)
            elif name == "Execute":
                await self._execute(run, rule, number, action.parameter)
            elif name == "FingerNotify":
                await self._finger(rule, number, action.parameter)
            elif name == "Write To Log":
                self._log.major("[%d] RULES(%s) %s", self._message.id, run.scope, action.parameter)
            elif name == "ExternalFilter":
                await self._filter(run, action.parameter)
        except AccountError as error:
            raise ActionFailed(error.text) from None
        except (NoSpace, JournalError) as error:
            raise ActionFailed(str(error), "later") from None
        except (Malformed, TooLarge, ValueError) as error:
            raise ActionFailed(str(error)) from None

    def _add(self, run: Run, lines: bytes) -> None:
        """Put fields on; a copy that rules have made here has those of the server's rules already."""
        if self._account is None and marks(run.subject.text) and b"\n" + lines in run.subject.text:
            return
        run.add(lines)

    def _name(self, rule: CompiledRule, number: int) -> str:
        return f"RULES {self._identity.scope} {number} {rule.key}"

    # -- messages -----------------------------------------------------------------------------------------------------

    async def _send_on(self, run: Run, rule: CompiledRule, number: int, action: Action) -> None:
        if has_mark(run.subject, self._identity):
            raise ActionFailed("the message passed these rules before: it goes in a circle")
        now = self._shop.clock.local(self._shop.clock.now())
        added = self._message.added_header + run.added
        made = copy_of(action.name, action.parameter, run.subject, added, self._identity, now)
        await self._submit(run, rule, number, made)

    async def _answer(self, run: Run, rule: CompiledRule, number: int, action: Action) -> None:
        now = self._shop.clock.local(self._shop.clock.now())
        try:
            if action.name == "React with":
                made = reaction_to(action.parameter, run.subject, self._identity, now)
            else:
                everybody = action.name == "Reply to All with"
                made = reply_to(action.parameter, run.subject, self._identity, now, everybody=everybody)
        except NoAnswer as reason:
            self._log.low("[%d] RULES(%s) no message is made: %s", self._message.id, run.scope, reason)
            return
        await self._submit(run, rule, number, made)

    async def _submit(self, run: Run, rule: CompiledRule, number: int, made: Outgoing) -> None:
        name = self._name(rule, number)
        message = self._message
        if (known := message.made_for(name)) is not None:
            self._log.low("[%d] RULES(%s) [%d] was made before", message.id, run.scope, known)
            return
        owner = self._account
        module = "ENQUEUER" if owner is None else "LOCAL"
        source = Source(module, account=None if owner is None else owner.full_name, trusted=True)
        async with self._shop.transfer.begin(source) as submission:
            submission.sender = made.sender
            submission.smtputf8 = message.smtputf8
            for recipient in made.recipients:
                submission.add(Envelope(recipient, "N"))
            await submission.write(made.header)
            if made.body is not None:
                await submission.write(made.body)
            else:
                skip = len(run.subject.text)
                async for piece in message.chunks():
                    if skip < len(piece):
                        await submission.write(piece[skip:] if skip else piece)
                    skip = max(0, skip - len(piece))
            made_id = await submission.submit(because_of=(message, name))
        self._log.low(
            "[%d] RULES(%s) rule '%s': sent [%d] to %s",
            message.id,
            run.scope,
            rule.rule.name,
            made_id,
            ", ".join(made.recipients)[:300],
        )

    # -- mailboxes and lists ------------------------------------------------------------------------------------------

    async def _store(self, run: Run, rule: CompiledRule, number: int, parameter: str) -> None:
        user, mailbox = parse_store(parameter)
        target = self._account
        if user:
            name = user if "@" in user else f"{user}@{self._identity.domain}"
            target = self._shop.domains.find_account(name)
            if target is None:
                raise ActionFailed(f"there is no account {name}")
            await target.ready()
        if target is None:
            raise ActionFailed("the account is not named")
        own = target is self._account
        who = None if own or self._account is None else self._account.full_name

        async def check(state: State) -> str:
            box = state.find(mailbox)
            if who is not None and "i" not in effective(box.info.acl, who, target.domain.name):
                raise AccountError("NOPERM", "there is no right to insert messages")
            return box.name

        try:
            mailbox = await self._shop.accounts.with_state(target, check)
        except AccountError as error:
            raise ActionFailed(f"mailbox {parameter}: {error.text}") from None
        if own:
            run.ruling.copies.append(Kept(mailbox, run.flags, run.added))
            return
        key = self._name(rule, number)
        if self._message.made_for(key) is not None:
            return
        await self._deliver(run, target, mailbox)
        self._shop.transfer.spool.done(self._message, key)

    async def _deliver(self, run: Run, target: Account, mailbox: str) -> None:
        """Store in another account; the frame that tells it stands right before the note that it is done."""
        message = self._message
        content = await self._shop.content(message)
        size = len(content) if isinstance(content, bytes) else message.size
        sender = message.sender.encode("utf-8", "surrogateescape")
        added = b"Return-Path: <%s>\n" % sender + message.added_header + run.added
        delivery = Delivery(
            message.id, content, size, sender, int(self._shop.clock.now()), (Store(mailbox, run.flags, added=added),)
        )
        result = await self._shop.accounts.deliver(target, delivery)
        outcome = Outcome(Kind.DELIVERED)
        self._shop.transfer.dequeuer.finish(message, [], outcome, Stored(target.full_name, result.record))

    async def _remember(self, run: Run, name: str) -> None:
        author = next((address_of(mailbox) for mailbox in run.subject.mailboxes(b"from")), "")
        if not name or not author or self._account is None:
            return
        try:
            await self._shop.lists.remember(self._account, name, author.lower())
        except OSError as error:
            raise ActionFailed(f"the list {name} cannot be written: {error.strerror}") from None

    # -- programs, notices, filters -----------------------------------------------------------------------------------

    async def _execute(self, run: Run, rule: CompiledRule, number: int, parameter: str) -> None:
        key = self._name(rule, number)
        message = self._message
        if message.made_for(key) is not None:
            self._log.low("[%d] RULES(%s) the program was run before", message.id, run.scope)
            return
        command = parse_command(parameter)
        words = await self._words(command)
        try:
            user, directory = self._user()
            input = None if command.file else self._text(run)
            if self._account is not None:
                finished = await self._run(words, input, user, directory)
            else:
                # Mail that does not need the program never waits for it.
                with self._shop.transfer.enqueuer.outside():
                    async with self._shop.programs:
                        finished = await self._run(words, input, user, directory)
        except HelperError as error:
            raise ActionFailed(str(error), "reject") from None
        if finished.output:
            self._log.low("[%d] RULES(%s) %s wrote: %s", message.id, run.scope, words[0], _said(finished.output))
        errors = _said(finished.errors)
        if finished.code:
            text = errors if command.errors and errors else ""
            reason = f"{words[0]} ended with code {finished.code}: {errors}"
            raise ActionFailed(reason, "reject", text) if text else ActionFailed(reason, "reject")
        if not finished.took_all:
            raise ActionFailed(f"{words[0]} did not read the whole message", "reject")
        self._shop.transfer.spool.done(message, key)

    async def _run(
        self, words: list[str], input: AsyncIterator[bytes] | None, user: str | None, directory: str | None
    ) -> Finished:
        return await self._shop.helpers.execute(
            words,
            input=input,
            timeout=PROGRAM_SECONDS,
            limit=PROGRAM_OUTPUT,
            directory=directory,
            user=user,
            cut=True,
        )

    async def _words(self, command: Command) -> list[str]:
        words = list(command.words)
        if command.file:
            await self._message.file()
            words += ["-f", f"Queue/{self._message.id}.msg"]
        if command.return_path:
            words += ["-p", self._message.sender]
        if command.recipients:
            words += ["-r", *(recipient.address for recipient in self._message.recipients)]
        return words

    def _user(self) -> tuple[str | None, str | None]:
        """User of the operating system (None: the server's own) and directory. HelperError, ActionFailed."""
        account = self._account
        if account is None:
            return None, self._shop.base
        if sys.platform == "win32":
            raise ActionFailed("programs of accounts are not started under this operating system", "reject")
        import pwd

        if os.geteuid() != 0:
            home = os.path.expanduser("~")
            return None, home if os.path.isdir(home) else self._shop.base
        name = account.settings[d.OS_USER_NAME].replace("*", account.name)
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            raise ActionFailed(f"there is no user {name!r} in the operating system", "reject") from None
        if entry.pw_uid == 0:
            raise ActionFailed("programs of accounts are never started as root", "reject")
        return name, entry.pw_dir if os.path.isdir(entry.pw_dir) else "/"

    async def _text(self, run: Run) -> AsyncIterator[bytes]:
        """The whole message for a program."""
        added = self._message.added_header + run.added
        if added:
            yield added
        async for piece in self._message.chunks():
            yield piece

    async def _finger(self, rule: CompiledRule, number: int, parameter: str) -> None:
        key = self._name(rule, number)
        if self._message.made_for(key) is not None:
            return
        address = parameter.strip()
        if not address and self._account is not None:
            address = (await self._shop.accounts.with_state(self._account, _last_address)).strip("[]")
        if not address:
            raise ActionFailed("there is no address to notify")
        self._shop.notifier.notify(address)
        self._shop.transfer.spool.done(self._message, key)

    async def _filter(self, run: Run, name: str) -> None:
        if self._shop.filters is None:
            return
        answer = await self._shop.filters.ask(name, self._message, run.added)
        if answer.action == "postpone":
            raise ActionFailed(answer.text or "postponed by the filter", "later")
        if answer.action == "reject":
            run.ruling.action, run.ruling.text = "reject", answer.text
        elif answer.action == "discard":
            run.ruling.action = "discard"
        elif answer.added_header:
            self._add(run, answer.added_header)


async def _last_address(state: State) -> str:
    return str(state.info.values.get("#LastAddress", ""))


def _said(data: bytes) -> str:
    """What a program wrote, as a text of bounded length."""
    return data[:PROGRAM_OUTPUT].decode("utf-8", "replace").strip()


def header_lines(text: str) -> bytes:
    """Fields of a rule as lines of a header: names as they are, values encoded where they are not ASCII (RFC 2047)."""
    parts: list[bytes] = []
    for line in text.split("\n"):
        if line.isascii():
            parts.append(line.rstrip().encode() + b"\n")
        elif line[:1] in (" ", "\t"):
            parts.append(b" " + text_field("X", line.strip()).partition(b": ")[2])
        else:
            name, _, value = line.partition(":")
            parts.append(text_field(name.strip(), value.strip()))
    return b"".join(parts)
