"""What a new account finds in it: the mailboxes, the subscription and the greeting of its domain's template (manual, chapter 20)."""

from __future__ import annotations

import re
from typing import Final

from appliance.accounts.client import AccountError
from appliance.accounts.naming import create
from appliance.accounts.session import Session
from appliance.accounts.shared import set_aliases
from appliance.accounts.state import State
from appliance.accounts.writing import Item, put
from appliance.formats.dates import format_date_time
from appliance.formats.headers import get
from appliance.mailstore import names
from appliance.objects import declarations as d

__all__ = ["furnish"]

_CHARSET: Final = re.compile(r"\s*\[([A-Za-z0-9_.:-]{1,40})\]\s*")


async def furnish(state: State) -> None:
    """Make it. A template that asks for what cannot be is no reason to refuse the account. OSError."""
    template = state.account.domain.template
    if not state.single:
        for name in template[d.INITIAL_MAILBOXES]:
            try:
                await create(state, Session(), name)
            except AccountError as error:
                if error.code != "ALREADYEXISTS":
                    state.log.problem("%s: mailbox %s of the template: %s", state.name, name, error.text)
    subscription = [name for name in template[d.INITIAL_SUBSCRIPTION] if name]
    if subscription:
        state.info.subscription = list(dict.fromkeys(subscription))
        await state.save_info()
    aliases = dict(entry.split("=", 1) for entry in template[d.INITIAL_ALIASES] if "=" in entry)
    if aliases:
        try:
            await set_aliases(state, Session(), {name.strip(): target.strip() for name, target in aliases.items()})
        except AccountError as error:
            state.log.problem("%s: mailbox aliases of the template: %s", state.name, error.text)
    greeting = template[d.INITIAL_GREETING]
    if greeting.strip():
        clock = state.shared.clock
        now = clock.now()
        content = _message(greeting, format_date_time(clock.local(now)))
        await put(state, [(state.boxes[names.INBOX], [Item(0, 0, int(now), b"", content)])])
    state.new = False


def _message(text: str, date: str) -> bytes:
    """The greeting in store form. It may begin with its charset in brackets; a Date field is added."""
    charset = "utf-8"
    if match := _CHARSET.match(text):
        charset, text = match[1], text[match.end() :]
    try:
        content = text.encode(charset, "replace")
    except LookupError:
        content = text.encode("utf-8", "surrogateescape")
    if not content.endswith(b"\n"):
        content += b"\n"
    if get(content, b"subject") is None and get(content, b"from") is None:
        content = b"\n" + content  # a text without a header of its own
    return b"" if not content.strip() else f"Date: {date}\n".encode("ascii") + content
