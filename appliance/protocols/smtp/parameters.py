"""Parameters of MAIL and RCPT: SIZE (RFC 1870), BODY (RFC 6152), RET, ENVID, NOTIFY, ORCPT (RFC 3461), AUTH (RFC 4954),
SMTPUTF8 (RFC 6531)."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Final

from appliance.formats.addresses import AddressError, parse_path_prefix
from appliance.formats.xtext import MAX_ENVID, MAX_ORCPT, decode_orcpt, decode_xtext
from appliance.protocols.smtp.events import Mail, Rcpt

MAX_LOCAL: Final = 192
"""Octets of a local part that are taken: senders of bounces (VERP) use more than the 64 of the standard."""

_NOTIFY = frozenset({"SUCCESS", "FAILURE", "DELAY"})


class ParameterError(ValueError):
    """A parameter is malformed (501), or not known here (`unknown`, 555)."""

    def __init__(self, text: str, *, unknown: bool = False) -> None:
        super().__init__(text)
        self.unknown = unknown


def _size(value: bytes) -> dict[str, Any]:
    if not value.isdigit() or len(value) > 20:
        raise ParameterError("not a number")
    return {"size": int(value)}


def _body(value: bytes) -> dict[str, Any]:
    word = value.upper()
    if word not in (b"7BIT", b"8BITMIME"):
        raise ParameterError("neither 7BIT nor 8BITMIME")
    return {"body": word.decode()}


def _ret(value: bytes) -> dict[str, Any]:
    word = value.upper()
    if word not in (b"FULL", b"HDRS"):
        raise ParameterError("neither FULL nor HDRS")
    return {"ret": word.decode()}


def _envid(value: bytes) -> dict[str, Any]:
    if not value or len(value) > MAX_ENVID:
        raise ParameterError("empty or too long")
    return {"envid": decode_xtext(value)}


def _auth(value: bytes) -> dict[str, Any]:
    if not value or len(value) > MAX_ORCPT:
        raise ParameterError("empty or too long")
    text = "" if value == b"<>" else decode_xtext(value)
    return {"auth": "" if text == "<>" else text}


def _utf8(value: bytes) -> dict[str, Any]:
    if value:
        raise ParameterError("takes no value")
    return {"utf8": True}


def _notify(value: bytes) -> dict[str, Any]:
    words = tuple(value.decode("ascii", "replace").upper().split(","))
    if words != ("NEVER",) and (not _NOTIFY.issuperset(words) or len(set(words)) != len(words)):
        raise ParameterError("neither NEVER nor a list of SUCCESS, FAILURE, DELAY")
    return {"notify": words}


def _orcpt(value: bytes) -> dict[str, Any]:
    return {"orcpt": str(decode_orcpt(value))}


_Reader = Callable[[bytes], dict[str, Any]]
_MAIL: Final[dict[bytes, _Reader]] = {
    b"SIZE": _size,
    b"BODY": _body,
    b"RET": _ret,
    b"ENVID": _envid,
    b"AUTH": _auth,
    b"SMTPUTF8": _utf8,
}
_RCPT: Final[dict[bytes, _Reader]] = {b"NOTIFY": _notify, b"ORCPT": _orcpt}


def _parameters(rest: bytes, known: dict[bytes, _Reader], refused: Collection[bytes]) -> dict[str, Any]:
    if rest and rest[:1] not in b" \t":
        raise ParameterError("a blank is expected after the address")
    found: dict[str, Any] = {}
    seen: set[bytes] = set()
    for word in rest.split():
        key, _, value = word.partition(b"=")
        key = key.upper()
        read = known.get(key)
        if read is None or key in refused:
            shown = key[:32].decode("ascii", "replace")
            raise ParameterError(f"parameter {shown} is not known", unknown=True)
        if key in seen:
            raise ParameterError(f"parameter {key.decode()} stands twice")
        seen.add(key)
        try:
            found.update(read(value))
        except ValueError as error:
            raise ParameterError(f"{key.decode()}: {error}") from None
    return found


def parse_mail(rest: bytes, refused: Collection[bytes] = ()) -> Mail:
    """What stands behind `MAIL FROM:`. `refused` are parameters not taken. Raises AddressError, ParameterError."""
    path, end = parse_path_prefix(rest, max_local=MAX_LOCAL)
    if not path.is_null and not path.local:
        raise AddressError("the local part is missing")
    return Mail(path, **_parameters(rest[end:], _MAIL, refused)) if end < len(rest) else Mail(path)


def parse_rcpt(rest: bytes) -> Rcpt:
    """What stands behind `RCPT TO:`. Raises AddressError, ParameterError."""
    path, end = parse_path_prefix(rest, max_local=MAX_LOCAL)
    if path.is_null:
        raise AddressError("a recipient cannot be empty")
    return Rcpt(path, **_parameters(rest[end:], _RCPT, ())) if end < len(rest) else Rcpt(path)
