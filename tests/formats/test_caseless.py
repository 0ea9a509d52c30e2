import pytest

from appliance.formats.caseless import CaselessDict
from appliance.formats.data import Value, parse


@pytest.mark.feature("DATA-023")
def test_any_spelling_of_a_key_finds_the_value() -> None:
    stored = parse("{accountName=joe; RealName=Joe;}")
    assert isinstance(stored, dict)
    assert "accountname" not in stored
    attributes: CaselessDict[Value] = CaselessDict(stored)
    assert attributes["ACCOUNTNAME"] == attributes["accountname"] == "joe"
    assert "realname" in attributes
    assert not attributes.keys() & {"joe"}
    attributes["REALNAME"] = "Joseph"
    assert list(attributes.items()) == [("accountName", "joe"), ("REALNAME", "Joseph")]
    del attributes["AccountName"]
    assert attributes == {"REALNAME": "Joseph"}
    assert len(attributes) == 1
    with pytest.raises(KeyError):
        attributes["accountName"]
    assert repr(CaselessDict([("a", 1)])) == "CaselessDict({'a': 1})"
