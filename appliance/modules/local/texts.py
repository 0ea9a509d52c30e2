"""What senders are told by local delivery."""

from __future__ import annotations

from typing import Final

__all__ = ["TEXTS"]

TEXTS: Final = {
    "LocalAllNobody": "you may not send to all",
    "LocalAllNull": "a message without a return-path is not distributed to all",
    "LocalAllDelivered": "distributed to all",
    "LocalDelivered": "delivered",
    "LocalDisabled": "mail service is disabled for this account",
    "LocalFlow": "too many messages for this account",
    "LocalFull": "account is full",
    "LocalNoMailbox": "there is no mailbox ^0",
    "LocalTest": "the address is good, nothing was stored",
    "LocalUnknown": "unknown account",
}
