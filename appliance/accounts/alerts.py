"""Alerts of the server, of a domain and of an account, shown once to each user (manual, chapter 12); and what `info` tells.

An alert's key is the time of its posting, `yyyymmddhhmmss`. Server and domain alerts stay until an administrator removes them,
and `account.info` keeps which of them the user has seen; an account's own alert is gone once it was shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol

from appliance.accounts.session import Session
from appliance.accounts.state import State
from appliance.formats.data import Value
from appliance.objects import declarations as d
from appliance.objects.domain import Account

__all__ = ["ALERTS", "CONFIRMED", "AlertSource", "confirm_alerts", "info", "set_own", "set_value"]

ALERTS: Final = "Alerts"
CONFIRMED: Final = "ConfirmedAlerts"
MAX_ALERTS: Final = 100
QUOTA_PAUSE: Final = 600
"""Seconds between two alerts that the account is nearly full."""
_QUOTA: Final = "QuotaAlerted"


class AlertSource(Protocol):
    """Who knows the alerts of the server and of the domains."""

    async def standing(self, account: Account) -> Mapping[str, str]:
        """Texts of server and domain together, each under a word that begins with its key and is no other's."""
        ...

    def quota(self) -> tuple[int, str] | None:
        """From which percent of its limit on an account's user is told, and what; None: never."""
        ...


def own_alerts(state: State) -> dict[str, str]:
    """The account's own."""
    found = state.info.values.get(ALERTS)
    if not isinstance(found, dict):
        return {}
    return {key: text for key, text in found.items() if isinstance(text, str)}


async def confirm_alerts(state: State, session: Session, source: AlertSource, confirm: bool, most: int) -> list[str]:
    """The alerts that the user has not seen yet, the oldest first; at most so many, 0 for all."""
    if session.who is not None:
        return []
    values = state.info.values
    seen = values.get(CONFIRMED)
    known = {key for key in seen if isinstance(key, str)} if isinstance(seen, list) else set()
    standing = await source.standing(state.account)
    own = own_alerts(state)
    fresh = [(key, text) for key, text in standing.items() if key not in known]
    found = sorted([*fresh, *own.items()])
    now = state.shared.clock.now()
    if text := _quota_alert(state, source, now):
        found.append((_QUOTA, text))
    found = found[: most or None]
    if confirm and found:
        shown = {key for key, _ in found}
        confirmed: list[Value] = [*sorted(key for key in standing if key in known or key in shown)]
        values[CONFIRMED] = confirmed
        left: dict[str, Value] = {key: text for key, text in own.items() if key not in shown}
        if left:
            values[ALERTS] = left
        else:
            values.pop(ALERTS, None)
        if _QUOTA in shown:
            values[_QUOTA] = str(int(now))
        await state.save_info()
    return [text for _, text in found]


def _quota_alert(state: State, source: AlertSource, now: float) -> str:
    """What a user hears whose account is nearly full; not again for some minutes (manual, chapter 12, Storage Quota Alerts)."""
    limit, wanted = state.limit, source.quota()
    if not limit or wanted is None or state.used * 100 < limit * wanted[0]:
        return ""
    last = state.info.values.get(_QUOTA)
    if isinstance(last, str) and last.isdecimal() and 0 <= now - int(last) < QUOTA_PAUSE:
        return ""
    return wanted[1]


async def set_own(state: State, alerts: Mapping[str, str]) -> None:
    """Put these in place of the account's own alerts."""
    values: dict[str, Value] = dict(sorted(alerts.items())[-MAX_ALERTS:])
    if values:
        state.info.values[ALERTS] = values
    else:
        state.info.values.pop(ALERTS, None)
    await state.save_info()


async def set_value(state: State, key: str, value: Value) -> None:
    """A `#` element of account.info; written at the next good moment."""
    state.info.values["#" + key] = value
    state.info_stale = True


async def info(state: State, session: Session) -> dict[str, Any]:
    own = state.info.values if session.who is None else {}
    answer: dict[str, Any] = {key: value for key, value in own.items() if key.startswith("#")}
    answer["used"] = state.used
    answer["limit"] = state.limit
    answer["mailboxes_limit"] = state.account.settings[d.MAX_MAILBOXES]
    return answer
