"""Commands that name mailboxes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from appliance.accounts.client import Flag
from appliance.protocols.imap.names import ListPattern, encode_utf7

if TYPE_CHECKING:
    from .conftest import Post


@pytest.mark.feature("IMAP-022", "MBOX-040")
async def test_select_tells_all(post: Post) -> None:
    post.fill(2, flags=int(Flag.SEEN), keywords=("Later",))
    post.fill(1)
    async with post.logged_in() as client:
        lines = await client.do("SELECT INBOX")
        marks = b"$Redirected $MDNSent $Media"
        assert lines[0] == b"* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft " + marks + b" Later)"
        assert lines[1:3] == [b"* 3 EXISTS", b"* 3 RECENT"]
        assert lines[3].startswith(b"* OK [UNSEEN 3]")
        permanent = b"\\Answered \\Flagged \\Deleted \\Seen \\Draft " + marks + b" Later \\*"
        assert lines[4].startswith(b"* OK [PERMANENTFLAGS (" + permanent + b")]")
        assert lines[5].startswith(b"* OK [UIDVALIDITY 77]")
        assert lines[6].startswith(b"* OK [UIDNEXT 104]")
        assert lines[-1].startswith(b"OK [READ-WRITE]")
        assert await client.ok("STATUS INBOX (MESSAGES UIDVALIDITY UIDNEXT UNSEEN)") == [
            b"* STATUS INBOX (MESSAGES 3 UIDVALIDITY 77 UIDNEXT 104 UNSEEN 1)"
        ]
        assert (await client.last("SELECT nosuch")).startswith(b"NO [NONEXISTENT]")
        assert (await client.last("FETCH 1 FLAGS")).startswith(b"BAD")  # nothing is selected any more


async def test_a_mailbox_that_one_may_only_read(post: Post) -> None:
    post.fill(1, flags=int(Flag.DELETED))
    post.account.mailboxes["INBOX"].rights = "lr"
    async with post.logged_in() as client:
        assert (await client.last("SELECT INBOX")).startswith(b"OK [READ-ONLY]")
        assert (await client.last("STORE 1 +FLAGS (\\Seen)")).startswith(b"NO [NOPERM]")
        assert (await client.last("EXPUNGE")).startswith(b"NO [NOPERM]")
        assert await client.ok("FETCH 1 BODY[TEXT]") == [b"* 1 FETCH (BODY[TEXT] {8}\r\ntext 1\r\n)"]
        await client.ok("CLOSE")
    assert len(post.account.mailboxes["INBOX"].messages) == 1


@pytest.mark.feature("IMAP-023", "IMAP-081", "MBOX-043")
async def test_examine_changes_nothing(post: Post) -> None:
    post.fill(2)
    async with post.logged_in() as client:
        lines = await client.do("EXAMINE INBOX")
        assert b"* 2 RECENT" in lines
        assert any(line.startswith(b"* OK [PERMANENTFLAGS ()]") for line in lines)
        assert lines[-1].startswith(b"OK [READ-ONLY]")
        await client.ok("FETCH 1 BODY[]")
        assert await client.ok("FETCH 1 FLAGS") == [b"* 1 FETCH (FLAGS (\\Recent))"]
        assert (await client.last("STORE 1 FLAGS (\\Seen)")).startswith(b"NO")
        assert b"* 2 RECENT" in await client.ok("SELECT INBOX")
        assert b"* 0 RECENT" in await client.ok("SELECT INBOX")


@pytest.mark.feature("IMAP-024", "IMAP-042")
async def test_inbox_in_any_case(post: Post) -> None:
    post.account.put(b"x", "x/inbox")
    async with post.logged_in("inBox") as client:
        await client.ok("SELECT x/inbox")
        assert (await client.last("SELECT x/INBOX")).startswith(b"NO")
        await client.ok("SELECT /INBOX")
        assert await client.ok('LIST "" inbox') == [b'* LIST (\\HasNoChildren \\Unmarked) "/" INBOX']
        assert await client.ok('LIST "" "/%"') == await client.ok('LIST "" "%"')


@pytest.mark.feature("IMAP-025", "IMAP-030", "IMAP-031", "MBOX-004", "MBOX-007", "MBOX-014")
async def test_create_rename_delete(post: Post) -> None:
    async with post.logged_in() as client:
        await client.ok("CREATE a/b/c")
        listed = await client.ok('LIST "" "a*"')
        assert [line.rsplit(b" ", 1)[1] for line in listed] == [b"a", b"a/b", b"a/b/c"]
        assert (await client.last("CREATE a/b/c")).startswith(b"NO [ALREADYEXISTS]")
        await client.ok("RENAME a/b/c d")
        assert (await client.last("RENAME a/b/c e")).startswith(b"NO [NONEXISTENT]")
        await client.ok("DELETE d")
        assert (await client.last("DELETE inbox")).startswith(b"NO [CANNOT]")
        assert (await client.last("DELETE d")).startswith(b"NO")
        await client.ok("CREATE folder/")
        await client.ok("RENAME INBOX old")
        assert "INBOX" in post.account.mailboxes
        assert (await client.last('CREATE ""')).startswith(b"BAD")
    assert "folder/" in post.account.mailboxes  # the gate's word for "only a folder"


@pytest.mark.feature("IMAP-043", "MBOX-020")
async def test_names_in_other_scripts(post: Post) -> None:
    async with post.logged_in() as client:
        await client.ok("CREATE &BB8EQAQ4BDIENQRC-")
        assert encode_utf7("Привет") in post.account.mailboxes
        assert b"&BB8EQAQ4BDIENQRC-" in b"".join(await client.ok('LIST "" *'))
        await client.ok('CREATE "R&AOk-sum&AOk- 1"')
        assert b'"/" "R&AOk-sum&AOk- 1"' in b"".join(await client.ok('LIST "" *'))


@pytest.mark.feature("IMAP-037", "IMAP-038", "IMAP-039", "IMAP-110", "STD-107")
async def test_list(post: Post) -> None:
    post.account.put(b"x", "a/b/c")
    async with post.logged_in() as client:
        assert await client.ok('LIST "" ""') == [b'* LIST (\\Noselect) "/" ""']
        assert await client.ok('LIST "" %') == [
            b'* LIST (\\HasNoChildren \\Unmarked) "/" INBOX',
            b'* LIST (\\Noselect \\HasChildren) "/" a',
        ]
        [line] = await client.ok('LIST "" "a/%/%"')
        assert line.endswith(b" a/b/c")
        assert await client.ok("LIST a/ %") == [b'* LIST (\\Noselect \\HasChildren) "/" a/b']
        assert len(await client.ok('LIST "" *')) == 4
        assert await client.ok('LIST "" nosuch') == []


@pytest.mark.feature("IMAP-040")
async def test_marked(post: Post) -> None:
    post.fill(1, "news")
    async with post.logged_in() as client:
        assert await client.ok('LIST "" news') == [b'* LIST (\\HasNoChildren \\Marked) "/" news']
        await client.ok("SELECT news")
        assert await client.ok('LIST "" news') == [b'* LIST (\\HasNoChildren \\Unmarked) "/" news']


@pytest.mark.feature("IMAP-117", "IMAP-118", "IMAP-115", "IMAP-116", "IMAP-044", "MBOX-045", "MBOX-046", "STD-109")
async def test_own_items_of_status_and_list(post: Post) -> None:
    post.fill(2, "mail", flags=int(Flag.SEEN))
    post.fill(1, "mail")
    async with post.logged_in() as client:
        [line] = await client.ok('LIST (CHILDREN UNSEEN INTERNALSIZE) "" "ma%"')
        size = sum(len(m.data) + 80 for m in post.account.mailboxes["mail"].messages.values())
        assert line == b'* LIST (\\HasNoChildren \\Marked \\UNSEEN(1) \\INTERNALSIZE(%d)) "/" mail' % size
        assert await client.ok("STATUS mail (UNSEEN OLDEST INTERNALSIZE)") == [
            b'* STATUS mail (UNSEEN 1 OLDEST " 1-Feb-2020 09:20:30 +0000" INTERNALSIZE %d)' % size
        ]
        assert await client.ok("STATUS INBOX (OLDEST MESSAGES)") == [b"* STATUS INBOX (MESSAGES 0)"]
        assert (await client.last("STATUS nosuch (MESSAGES)")).startswith(b"NO")
        assert (await client.last("STATUS INBOX (NOPE)")).startswith(b"BAD")
        await client.ok("SUBSCRIBE mail")
        await client.ok("SUBSCRIBE gone")
        assert await client.ok('LIST (SUBSCRIBED) "" "*"') == [
            b'* LIST (\\NonExistent \\Subscribed) "/" gone',
            b'* LIST (\\HasNoChildren \\Subscribed \\Marked) "/" mail',
        ]
        lines = await client.ok('LIST "" (INBOX ma%) RETURN (SUBSCRIBED STATUS (MESSAGES))')
        assert lines[1] == b"* STATUS INBOX (MESSAGES 0)"
        assert lines[2] == b'* LIST (\\HasNoChildren \\Subscribed \\Marked) "/" mail'


@pytest.mark.feature("IMAP-033", "IMAP-034", "IMAP-035", "IMAP-127", "MBOX-151", "MBOX-154")
async def test_subscription(post: Post) -> None:
    async with post.logged_in() as client:
        for name in ("~sales/processed", "inbox", "INBOX", "a/b", "gone"):
            await client.ok(f"SUBSCRIBE {name}")
        assert post.account.subscribed == ["~sales/processed", "INBOX", "a/b", "gone"]
        assert b'* LSUB () "/" ~sales/processed' in await client.ok('LSUB "" "*"')
        assert await client.ok('LSUB "" "%"') == [
            b'* LSUB () "/" INBOX',
            b'* LSUB (\\Noselect) "/" a',
            b'* LSUB () "/" gone',
            b'* LSUB (\\Noselect) "/" ~sales',
        ]
        await client.ok("UNSUBSCRIBE gone")
        assert await client.ok("LSUB a/ %") == [b'* LSUB () "/" a/b']
        assert await client.ok('LSUB "" gone') == []


@pytest.mark.feature("IMAP-107", "STD-054")
async def test_namespace(post: Post) -> None:
    async with post.logged_in() as client:
        assert await client.ok("NAMESPACE") == [b'* NAMESPACE (("" "/")) (("~" "/")) NIL']


@pytest.mark.feature("IMAP-101", "IMAP-102", "IMAP-103", "IMAP-104", "STD-060")
async def test_quota(post: Post) -> None:
    post.account.put(b"x" * 2 * 1024 * 1024)
    post.account.limit = 10 * 1024 * 1024
    post.boss.put(b"x" * 1500)
    post.boss.limit = 1024 * 1024
    async with post.logged_in() as client:
        assert await client.ok('GETQUOTA ""') == [b'* QUOTA "" (STORAGE 2048 10240)']
        assert await client.ok("GETQUOTAROOT INBOX") == [
            b'* QUOTAROOT INBOX ""',
            b'* QUOTA "" (STORAGE 2048 10240)',
        ]
        assert await client.ok("GETQUOTAROOT ~boss/INBOX") == [
            b"* QUOTAROOT ~boss/INBOX ~boss",
            b"* QUOTA ~boss (STORAGE 2 1024)",
        ]
        assert (await client.last("GETQUOTA nope")).startswith(b"NO")
        assert (await client.last('SETQUOTA "" (STORAGE 1)')).startswith(b"NO [NOPERM]")
        post.account.limit = None
        assert await client.ok('GETQUOTA ""') == [b'* QUOTA "" ()']


@pytest.mark.feature("IMAP-098")
async def test_my_rights(post: Post) -> None:
    async with post.logged_in() as client:
        assert await client.ok("MYRIGHTS INBOX") == [b"* MYRIGHTS INBOX lrswipkxtecda"]
        assert (await client.last("MYRIGHTS nosuch")).startswith(b"NO")


@pytest.mark.feature("IMAP-125", "IMAP-041", "MBOX-100")
async def test_mailboxes_of_others(post: Post) -> None:
    post.fill(2)
    post.boss.put(b"Subject: secret plan\r\n\r\nx\r\n")
    post.boss.put(b"Subject: in\r\n\r\nx\r\n", "in")
    async with post.logged_in() as client:
        assert await client.ok("STATUS ~boss/INBOX (MESSAGES)") == [b"* STATUS ~boss/INBOX (MESSAGES 1)"]
        lines = await client.ok('LIST "" "~boss/*"')
        assert [line.rsplit(b" ", 1)[1] for line in lines] == [b"~boss/INBOX", b"~boss/in"]
        await client.ok("APPEND ~boss/in {3+}\r\nabc")
        await client.ok("SELECT ~boss/INBOX")
        assert b"secret plan" in (await client.ok("FETCH 1 ENVELOPE"))[0]
        post.boss.put(b"Subject: y\r\n\r\ny\r\n")
        assert b"* 2 EXISTS" in await client.ok("NOOP")
        await client.ok("SELECT INBOX")
        last = await client.last("COPY 1:2 ~boss/in")
        assert last.startswith(b"OK [COPYUID 77 101:102 103:104]")
        assert [m.data for m in post.boss.mailboxes["in"].messages.values()][2:] == [
            m.data for m in post.account.mailboxes["INBOX"].messages.values()
        ]
        assert (await client.last("SELECT ~nobody/INBOX")).startswith(b"NO")
        assert (await client.last("SELECT ~boss")).startswith(b"NO")
        assert (await client.last("RENAME a ~boss/a")).startswith(b"NO")
    assert post.boss.open_sessions == 0


def test_patterns_are_joined_to_the_reference() -> None:
    from appliance.access.imap.listing import combined, matches

    assert matches(combined("a/", [ListPattern("%")]), "a/b")
    assert not matches(combined("a/", [ListPattern("%")]), "a/b/c")
    assert matches([ListPattern("in%")], "INBOX")
