"""The sender that a device's mail is given, whatever the device says itself."""

from __future__ import annotations

import pytest

from appliance.modules.smtp.protection.devices import forced_from

SENDER = "scanner@box.test"


def fields(content: bytes) -> list[bytes]:
    return [line for line in content.split(b"\n\n")[0].split(b"\n") if line.lower().startswith(b"from:")]


@pytest.mark.parametrize(
    "said",
    [
        b"From: root@localhost\n",
        b'From: "scanner@box.test" <boss@box.test>\n',
        b'From: "boss@box.test" <other@box.test>\n',
        b"From: scanner@box.test <boss@box.test>\n",
        b"From: scanner@box.test, boss@box.test\n",
        b"From: <scanner@box.test> (x) <boss@box.test>\n",
        b"From:\n boss@box.test\n (scanner@box.test)\n",
        b"From: scanner@box.test\nTo: x@y.test\nFrom: boss@box.test\n",
        b"From: boss@box.test\nFROM: scanner@box.test\n",
        b"",
    ],
)
def test_no_other_sender_gets_through(said: bytes) -> None:
    (field,) = fields(forced_from(said + b"Subject: scan\n\ntext\n", SENDER))
    assert field.endswith(b"<scanner@box.test>")
    assert b"boss" not in field and b"root" not in field


@pytest.mark.parametrize("said", [b"scanner@box.test", b"<Scanner@Box.test>", b'"Second floor" <scanner@box.test>'])
def test_the_right_one_stays_as_it_is(said: bytes) -> None:
    message = b"Subject: scan\nFrom: " + said + b"\n\nFrom: text\n"
    assert forced_from(message, SENDER) == message
