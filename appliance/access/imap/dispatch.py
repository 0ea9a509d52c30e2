"""Which function carries out which command, and in which state it may come (RFC 3501, 3)."""

from __future__ import annotations

from typing import Final

from appliance.access.imap.capabilities import capability, enable, identify, logout, noop
from appliance.access.imap.fetching import fetch
from appliance.access.imap.idling import idle
from appliance.access.imap.listing import list_, lsub
from appliance.access.imap.login import authenticate, login, starttls
from appliance.access.imap.mailboxes import (
    close,
    create,
    delete,
    get_quota,
    get_quota_root,
    my_rights,
    namespace,
    rename,
    select,
    set_quota,
    status,
    subscribe,
)
from appliance.access.imap.searching import search
from appliance.access.imap.session import Rule
from appliance.access.imap.storing import copy, expunge, move, store

RULES: Final = {
    "AUTHENTICATE": Rule(authenticate, "stranger"),
    "CAPABILITY": Rule(capability, "any"),
    "CHECK": Rule(noop, "selected"),
    "CLOSE": Rule(close, "selected"),
    "COPY": Rule(copy, "selected"),
    "CREATE": Rule(create, "known"),
    "DELETE": Rule(delete, "known"),
    "ENABLE": Rule(enable, "known"),
    "EXAMINE": Rule(select, "known"),
    "EXPUNGE": Rule(expunge, "selected"),
    "FETCH": Rule(fetch, "selected"),
    "GETQUOTA": Rule(get_quota, "known"),
    "GETQUOTAROOT": Rule(get_quota_root, "known"),
    "ID": Rule(identify, "any"),
    "IDLE": Rule(idle, "known"),
    "LIST": Rule(list_, "known"),
    "LOGIN": Rule(login, "stranger"),
    "LOGOUT": Rule(logout, "any"),
    "LSUB": Rule(lsub, "known"),
    "MOVE": Rule(move, "selected"),
    "MYRIGHTS": Rule(my_rights, "known"),
    "NAMESPACE": Rule(namespace, "known"),
    "NOOP": Rule(noop, "any"),
    "PARTIAL": Rule(fetch, "selected"),
    "RENAME": Rule(rename, "known"),
    "SEARCH": Rule(search, "selected"),
    "SELECT": Rule(select, "known"),
    "SETQUOTA": Rule(set_quota, "known"),
    "STARTTLS": Rule(starttls, "stranger"),
    "STATUS": Rule(status, "known"),
    "STORE": Rule(store, "selected"),
    "SUBSCRIBE": Rule(subscribe, "known"),
    "UNSELECT": Rule(close, "selected"),
    "UNSUBSCRIBE": Rule(subscribe, "known"),
}
"""Commands that the grammar knows and that are not here are answered as unknown."""
