"""The records of remote accounts: an array of dictionaries for each account and for the unified table.

Keys: `period`, `authName`, `domain` (the host), `password`, `leave`, `APOP`, `TLS` as the manual's table has them, and beyond
it `protocol` (POP, IMAP), `mailbox` (IMAP), `verify`; unified ones have `special` and `nameDomain` too. Keys that nobody
knows are kept. Passwords are stored sealed under the server's key; the sealed form is accepted back, so that what a script
reads it can write.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from appliance.formats.data import Value
from appliance.formats.passwords import REVERSIBLE, SALT_SIZE, Encryption, PasswordError, clear_text, store
from appliance.kernel.settings import DEFAULT, Group, Setting, SettingError
from appliance.modules.rpop import settings as s
from appliance.modules.rpop.settings import HostPort

__all__ = ["RecordError", "Remote", "checked", "read", "read_all"]

POP_PORT: Final = 110
POPS_PORT: Final = 995
IMAP_PORT: Final = 143
IMAPS_PORT: Final = 993


class RecordError(ValueError):
    """A record that cannot be; the text names the row and the column."""


@dataclass(frozen=True, slots=True)
class Remote:
    """One remote account. `period` None: it is not polled. `password` as it is stored: sealed, or clear in old files."""

    period: int | None
    name: str
    hosts: tuple[HostPort, ...]
    password: str = field(repr=False)
    leave: bool = False
    apop: bool = False
    tls: str = "NO"
    protocol: str = "POP"
    mailbox: str = "INBOX"
    verify: bool = True
    special: str = ""
    name_domain: str = ""

    @property
    def host(self) -> str:
        """The hosts as they are written."""
        return str(s.HOST.kind.render(self.hosts))

    @property
    def key(self) -> str:
        """What it is remembered under: the same remote mailbox has the same key, whatever its other options are."""
        place = f"/{self.mailbox}" if self.protocol == "IMAP" else ""
        return f"{self.protocol} {self.name}@{self.host}{place}"

    def port(self, host: HostPort) -> int:
        """The port of one of its hosts."""
        if host.port:
            return host.port
        if self.protocol == "IMAP":
            return IMAPS_PORT if self.tls == "YES" else IMAP_PORT
        return POPS_PORT if self.tls == "YES" else POP_PORT

    def implicit_tls(self, host: HostPort) -> bool:
        """Whether TLS begins before the greeting: TLS on any port but the one of clear sessions (RFC 8314, 3)."""
        return self.tls == "YES" and self.port(host) not in (POP_PORT, IMAP_PORT)

    @property
    def must_encrypt(self) -> bool:
        return self.tls != "NO"

    def secret(self, key: bytes) -> str | None:
        """The password itself; None if it was sealed under another server's key."""
        return clear_text(self.password, key) if self.password else ""


def _typed(record: Mapping[str, Value], *, unified: bool) -> dict[str, Any]:
    group = s.UNIFIED_RECORD if unified else s.RECORD
    typed: dict[str, Any] = {}
    for key, value in record.items():
        setting = group.find(key)
        if setting is not None and value != DEFAULT:
            typed[setting.key] = setting.parse(value)
    return typed


def read(record: Mapping[str, Value], *, unified: bool = False) -> Remote:
    """The record's meaning. Raises RecordError."""
    try:
        typed = _typed(record, unified=unified)
    except SettingError as error:
        raise RecordError(str(error)) from None

    def value(setting: Setting[Any]) -> Any:
        return typed.get(setting.key, setting.default)

    if not value(s.HOST) or not value(s.NAME):
        raise RecordError("the account name and the host are needed")
    return Remote(
        value(s.PERIOD),
        value(s.NAME),
        value(s.HOST),
        value(s.PASSWORD).reveal(),
        value(s.LEAVE),
        value(s.APOP),
        value(s.TLS),
        value(s.PROTOCOL),
        value(s.MAILBOX).strip() or "INBOX",
        value(s.VERIFY),
        value(s.SPECIAL),
        value(s.NAME_DOMAIN),
    )


def read_all(records: Iterable[Value], *, unified: bool = False) -> list[Remote]:
    """Those of stored records that can be understood; one that cannot be is left out."""
    found: list[Remote] = []
    for record in records:
        if isinstance(record, dict):
            try:
                found.append(read(record, unified=unified))
            except RecordError:
                continue
    return found


def checked(
    records: Iterable[Value], key: bytes, *, before: Iterable[Value] = (), unified: bool = False
) -> list[Value]:
    """Records as they are stored, out of what somebody gave: keys in their own spelling, passwords sealed under `key`.

    A password that is the same as in the records `before` keeps its sealed form, so that nothing changes.
    Two records for the same mailbox are refused: they would take each other's mail. Raises RecordError.
    """
    group = s.UNIFIED_RECORD if unified else s.RECORD
    made: list[Value] = []
    seen: set[str] = set()
    sealed = {remote.key: remote for remote in read_all(before, unified=unified)}
    for number, record in enumerate(records, 1):
        if not isinstance(record, dict):
            raise RecordError("newRecords: an array of dictionaries is expected")
        try:
            remote = read(record, unified=unified)
            if remote.key.casefold() in seen:
                raise RecordError("the same mailbox is there twice")
            seen.add(remote.key.casefold())
            made.append(_stored(record, group, key, sealed.get(remote.key)))
        except RecordError as error:
            raise RecordError(f"record {number}: {error}") from None
    if len(made) > s.MAX_RECORDS:
        raise RecordError(f"at most {s.MAX_RECORDS} records")
    return made


def _stored(record: Mapping[str, Value], group: Group, key: bytes, old: Remote | None) -> Value:
    values: dict[str, Value] = {}
    unknown: dict[str, Value] = {}
    for name, value in record.items():
        setting = group.find(name)
        if setting is None:
            unknown[name] = value
        elif value != DEFAULT:
            values[setting.key] = setting.kind.render(setting.parse(value))
    password = str(values.get(s.PASSWORD.key, ""))
    if old is not None and password and old.password.startswith(REVERSIBLE) and old.secret(key) == password:
        values[s.PASSWORD.key] = old.password
    elif password and not password.startswith(REVERSIBLE):
        try:
            salt = secrets.token_bytes(SALT_SIZE)
            values[s.PASSWORD.key] = store(password, Encryption.A_CRPT, salt=salt, key=key)
        except PasswordError as error:
            raise RecordError(str(error)) from None
    ordered: dict[str, Value] = {}
    for setting in group:
        value = values.get(setting.key, setting.kind.render(setting.default))
        if setting not in s.OPTIONAL or (setting.key in values and value != setting.kind.render(setting.default)):
            ordered[setting.key] = value
    return {**ordered, **unknown}
