"""Names of domains and of the objects in them (manual, chapters 17, 18 and 20): one syntax, small letters on disk."""

from __future__ import annotations

import re

from appliance.kernel.operations import OperationError

#: Object names may have this many symbols.
MAX_OBJECT_NAME = 128
#: A domain name in text form (RFC 1035, 2.3.4, without the final dot).
MAX_DOMAIN_NAME = 253

_OBJECT = re.compile(r"[A-Za-z0-9_-](?:[A-Za-z0-9_.-]*[A-Za-z0-9_-])?\Z")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_SEPARATOR = re.compile(r"[,;<>\s]")
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\Z")


def object_name(name: str) -> str:
    """The stored form of an account, group, forwarder or alias name. Raises OperationError that says what is wrong."""
    if not name or len(name) > MAX_OBJECT_NAME or not _OBJECT.match(name):
        raise OperationError(
            f"{name[:64]!r} cannot be a name: Latin letters, digits, '_', '-' and '.' (not first or last), "
            f"at most {MAX_OBJECT_NAME} symbols"
        )
    return name.lower()


def domain_name(name: str) -> str:
    """The stored form of a domain name; international names become A-labels (RFC 5890). Raises OperationError."""
    text = name.strip().rstrip(".").lower()
    if not text.isascii():
        try:
            text = text.encode("idna").decode("ascii")
        except UnicodeError:
            raise OperationError(f"{name[:64]!r} is not a domain name") from None
    if not text or len(text) > MAX_DOMAIN_NAME or not all(_LABEL.match(label) for label in text.split(".")):
        raise OperationError(f"{name[:64]!r} is not a domain name")
    return text


def is_one_address(text: str) -> bool:
    """Whether nothing outside quotes is more than one address, or an address with a name before it."""
    bare = _QUOTED.sub("", text)
    if bare.startswith("<") and bare.endswith(">"):
        bare = bare[1:-1]
    return bare.startswith("@") or not _SEPARATOR.search(bare)


def split_name(name: str, default_domain: str) -> tuple[str, str]:
    """`user@domain` as (local, domain); a name without a domain is in `default_domain`."""
    local, at, domain = name.rpartition("@")
    return (local, domain.lower()) if at else (name, default_domain)
