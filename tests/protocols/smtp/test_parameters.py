"""What stands behind MAIL FROM and RCPT TO: any bytes are an envelope, or are refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.formats.addresses import AddressError, join_address
from appliance.protocols.smtp.parameters import ParameterError, parse_mail, parse_rcpt

_WORDS = (
    *(b"<", b">", b"@", b",", b":", b'"', b"\\", b".", b" ", b"\t", b"=", b"+", b"[", b"]", b"%", b"!", b"a", b"joe"),
    *(b"far.test", b"192.0.2.1", b"IPv6:::1", b"SIZE=", b"BODY=8BITMIME", b"RET=HDRS", b"ENVID=", b"AUTH=<>"),
    *(b"NOTIFY=NEVER", b"ORCPT=rfc822;", b"SMTPUTF8", b"\xc3\xa9", b"\xff", b"\x00", b"9" * 30, b"x" * 300),
)
_LINES = st.one_of(st.lists(st.sampled_from(_WORDS), max_size=14).map(b"".join), st.binary(max_size=60))


@pytest.mark.feature("SMTP-020")
@settings(max_examples=200, deadline=None)
@given(_LINES)
def test_any_bytes(rest: bytes) -> None:
    for parse in (parse_mail, parse_rcpt):
        try:
            event = parse(b"<" + rest)
        except (AddressError, ParameterError) as error:
            assert str(error) and "\n" not in str(error)
            continue
        path = event.path
        assert "\r" not in path.address and "\n" not in path.address and "\0" not in path.address
        assert len(path.local) <= 2 * 192 and len(path.domain) <= 255
        if path.is_null:
            continue
        again = parse(f"<{join_address(path.local, path.domain)}>".encode("utf-8", "surrogateescape"))
        assert (again.path.local, again.path.domain.lower()) == (path.local, path.domain.lower())
