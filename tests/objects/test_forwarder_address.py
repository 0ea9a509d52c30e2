"""What a forwarder may point to: one address, in any of the router's forms."""

from __future__ import annotations

import pytest

from appliance.objects.names import is_one_address


@pytest.mark.parametrize(
    "text",
    ["ann", "ann@b.c", "<ann@b.c>", '"a b, c"@b.c', '"tee /tmp/x"@pipe', "a%b@c", "b!a", "@x,@y:a@b", "a@[10.0.0.1]"],
)
def test_one_address(text: str) -> None:
    assert is_one_address(text)


@pytest.mark.parametrize("text", ["a@b.c, d@e.f", "a@b.c;d@e.f", "a@b.c d@e.f", "Ann <a@b.c>", "<a@b.c>, <d@e.f>"])
def test_not_one_address(text: str) -> None:
    assert not is_one_address(text)
