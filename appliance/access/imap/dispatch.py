"""Which function carries out which command, and in which state it may come (RFC 3501, 3)."""

from __future__ import annotations

from typing import Final

from appliance.access.imap.annotations import get_metadata, set_metadata
from appliance.access.imap.capabilities import capability, compress, enable, identify, logout, noop
from appliance.access.imap.fetching import fetch
from appliance.access.imap.idling import idle
from appliance.access.imap.listing import list_, lsub
from appliance.access.imap.login import authenticate, login, starttls
from appliance.access.imap.mailboxes import (
    close,
    create,
    delete,
    namespace,
    rename,
    select,
    status,
    subscribe,
)
from appliance.access.imap.notifying import notify
from appliance.access.imap.quotas import get_quota, get_quota_root, set_quota
from appliance.access.imap.searching import search
from appliance.access.imap.session import Rule
from appliance.access.imap.sharing import delete_acl, get_acl, list_rights, my_rights, set_acl
from appliance.access.imap.sorting import sort, thread
from appliance.access.imap.storing import copy, expunge, move, store

RULES: Final = {
    "AUTHENTICATE": Rule(authenticate, "stranger"),
    "CAPABILITY": Rule(capability, "any"),
    "CHECK": Rule(noop, "selected"),
    "CLOSE": Rule(close, "selected"),
    "COMPRESS": Rule(compress, "known"),
    "COPY": Rule(copy, "selected"),
    "CREATE": Rule(create, "known"),
    "DELETE": Rule(delete, "known"),
    "DELETEACL": Rule(delete_acl, "known"),
    "ENABLE": Rule(enable, "known"),
    "EXAMINE": Rule(select, "known"),
    "EXPUNGE": Rule(expunge, "selected"),
    "FETCH": Rule(fetch, "selected"),
    "GETACL": Rule(get_acl, "known"),
    "GETMETADATA": Rule(get_metadata, "known"),
    "GETQUOTA": Rule(get_quota, "known"),
    "GETQUOTAROOT": Rule(get_quota_root, "known"),
    "ID": Rule(identify, "any"),
    "IDLE": Rule(idle, "known"),
    "LIST": Rule(list_, "known"),
    "LISTRIGHTS": Rule(list_rights, "known"),
    "LOGIN": Rule(login, "stranger"),
    "LOGOUT": Rule(logout, "any"),
    "LSUB": Rule(lsub, "known"),
    "MOVE": Rule(move, "selected"),
    "MYRIGHTS": Rule(my_rights, "known"),
    "NAMESPACE": Rule(namespace, "known"),
    "NOOP": Rule(noop, "any"),
    "NOTIFY": Rule(notify, "known"),
    "PARTIAL": Rule(fetch, "selected"),
    "RENAME": Rule(rename, "known"),
    "SEARCH": Rule(search, "selected"),
    "SELECT": Rule(select, "known"),
    "SETACL": Rule(set_acl, "known"),
    "SETMETADATA": Rule(set_metadata, "known"),
    "SETQUOTA": Rule(set_quota, "known"),
    "SORT": Rule(sort, "selected"),
    "STARTTLS": Rule(starttls, "stranger"),
    "STATUS": Rule(status, "known"),
    "STORE": Rule(store, "selected"),
    "SUBSCRIBE": Rule(subscribe, "known"),
    "THREAD": Rule(thread, "selected"),
    "UNSELECT": Rule(close, "selected"),
    "UNSUBSCRIBE": Rule(subscribe, "known"),
}
"""Commands that the grammar knows and that are not here are answered as unknown."""
