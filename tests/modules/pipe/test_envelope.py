"""What the header of a submitted file says of its envelope."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.formats.headers import get_all
from appliance.modules.pipe.envelope import read_header


def read(text: str) -> tuple[str, list[str], str, str]:
    found = read_header(text.encode(), "main.test")
    return found.sender, found.recipients, found.envid, found.header.decode()


@pytest.mark.feature("PIPE-007", "PIPE-008", "PIPE-012")
def test_recipients_of_to_cc_and_bcc() -> None:
    sender, recipients, _, header = read(
        "From: Ann <ann@a.test>\nTo: b@b.test, Group: c@c.test;\nCc: B@B.test,\n  d@d.test\nBcc: <e@e.test>\nSubject: x\n\n"
    )
    assert (sender, recipients) == ("ann@a.test", ["b@b.test", "c@c.test", "d@d.test", "e@e.test"])
    assert "Bcc" not in header and "Cc: B@B.test,\n  d@d.test\n" in header and header.endswith("Subject: x\n\n")


@pytest.mark.feature("PIPE-009", "PIPE-010", "PIPE-011", "PIPE-015")
def test_the_fields_of_the_envelope() -> None:
    sender, recipients, envid, header = read(
        "Return-Path: <bounce@a.test>\nEnvelope-To: x@x.test,\n y\nEnvelope-To: z@z.test\nEnvelope-ID: QQ 314\n"
        "From: ann@a.test\nTo: b@b.test\nEnvelope-Ignore: x@x.test\n\n"
    )
    assert (sender, recipients, envid) == ("bounce@a.test", ["x@x.test", "y@main.test", "z@z.test"], "QQ314")
    assert header == "From: ann@a.test\nTo: b@b.test\n\n"
    _, recipients, _, header = read("To: b@b.test, c\nCc: D@d.test\nEnvelope-Ignore: d@D.test, c@main.test\n\n")
    assert recipients == ["b@b.test"] and header == "To: b@b.test, c\nCc: D@d.test\n\n"
    assert read("Return-Path: <>\nFrom: a@a.test\nTo: b\n\n")[0] == ""


@pytest.mark.feature("PIPE-013", "PIPE-014", "MISC-050")
@pytest.mark.parametrize(
    ("before", "after", "sender"),
    [
        ("From: root", "From: root@main.test", "root@main.test"),
        ("From: Charlie Root <root>", "From: Charlie Root <root@main.test>", "root@main.test"),
        ('From: "Root, C." <root>', 'From: "Root, C." <root@main.test>', "root@main.test"),
        ("From: root (Charlie Root)", "From: Charlie Root <root@main.test>", "root@main.test"),
        ("From: a@a.test, b\nSender: joe", "From: a@a.test, b@main.test\nSender: joe@main.test", "joe@main.test"),
        ("From: Long Name\n <root>", "From: Long Name\n <root>", "root@main.test"),
        ("From:   x@a.test", "From:   x@a.test", "x@a.test"),
        ("Sender: s@a.test", "Sender: s@a.test", "s@a.test"),
    ],
)
def test_senders_get_a_domain(before: str, after: str, sender: str) -> None:
    found, _, _, header = read(before + "\nTo: b@b.test\n\n")
    assert (found, header) == (sender, after + "\nTo: b@b.test\n\n")


@given(
    st.lists(
        st.sampled_from(["From: ", "To: ", "Bcc: ", "Envelope-To: ", "<a", "@b>", "\n", " ", '"', ",", ";", "é", "\0"])
    )
)
@settings(max_examples=200, deadline=None)
def test_any_header(parts: list[str]) -> None:
    data = "".join(parts).encode() + b"\n\n"
    found = read_header(data, "main.test")
    for name in (b"bcc", b"envelope-to"):
        assert not get_all(found.header, name)
    assert all("@" in address and "\n" not in address for address in found.recipients)
