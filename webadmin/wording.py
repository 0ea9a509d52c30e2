"""Words that the pages add for people: what a component is for, groups of components, rights in plain language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class About:
    """Where a component stands on the index, and what its page says first."""

    heading: str
    summary: str
    note: str = ""


HEADINGS = ("Server", "Mail", "Access", "Network", "Queue and files", "Logs", "Other")

COMPONENTS: Mapping[str, About] = MappingProxyType(
    {
        "General": About("Server", "main domain, version, addresses"),
        "Router": About(
            "Mail",
            "where addresses lead",
            "One rule a line, tried from the top. <sales> = ann sends mail for sales of the main domain to ann; "
            "<sales@second.example> = ann does so for a second domain; *.old.example = new.example moves a domain; "
            "a line that begins with ; is a comment.",
        ),
        "SMTP": About("Mail", "mail from and to other servers"),
        "LOCAL": About("Mail", "mail into the accounts of this server"),
        "LIST": About("Mail", "distribution to groups"),
        "RPOP": About("Mail", "mail from mailboxes on other servers"),
        "PIPE": About("Mail", "mail from and to programs of this computer"),
        "Helpers": About("Mail", "virus scanners, spam filters, other programs"),
        "POP": About("Access", "mail programs that fetch mail"),
        "IMAP": About("Access", "mail programs that read mail on the server"),
        "PWD": About("Access", "password changes and commands from programs"),
        "HTTPA": About("Access", "these pages"),
        "LoginSecurity": About("Access", "guessed passwords"),
        "IPAddresses": About(
            "Network",
            "your own computers, unwanted ones",
            "Client addresses are your own computers and devices: they may send mail to everywhere. "
            "One address, range (10.0.0.1-10.0.0.9) or network (10.0.0.0/24) a line.",
        ),
        "Protection": About(
            "Network",
            "unwanted hosts, blacklists, scanners and printers",
            "Hosts on a blacklist may write to blacklist-admin only. A client address is never blacklisted, and a white-hole "
            "address neither. A scanner or printer that cannot log in goes into the table at the end: it may send to "
            "everybody, but only under the sender that you give it, and so much an hour.",
        ),
        "Banned": About("Network", "lines that no message may have"),
        "Schedule": About(
            "Network",
            "when the line may be used",
            "Without an element outgoing mail is sent at any time. With elements it waits for the times that you allow; "
            "mail that comes in is never held back.",
        ),
        "DNR": About("Network", "look-ups of names"),
        "TLS": About("Network", "encryption, the server's certificate"),
        "Queue": About("Queue and files", "limits and reports of waiting mail"),
        "TempFiles": About("Queue and files", "temporary files"),
        "Notifier": About("Queue and files", "notices of rules to users' machines"),
        "Log": About("Logs", "how long records are kept"),
    }
)
OTHER = About("Other", "")

#: Titles of columns where the declared one is too short for a page of its own.
COLUMNS: Mapping[str, str] = MappingProxyType({"From": "From", "To": "Until", "Pause": "Pause after a session"})

#: How a row is removed, by the key of its table.
REMOVAL: Mapping[str, str] = MappingProxyType(
    {
        "Schedule": "Choose days in the last line to add an element. Choose Never to remove one.",
        "Listener": "Write a port into the last line to add a socket. Port 0 removes one.",
    }
)

KINDS: Mapping[str, str] = MappingProxyType(
    {
        "MultiMailbox": "Usual: many mailboxes",
        "TextMailbox": "One mailbox, text file",
        "MailDirMailbox": "One mailbox, a file a message",
    }
)

RIGHTS: Mapping[str, str] = MappingProxyType(
    {
        "Master": "Everything, without limit",
        "Settings": "Server settings",
        "AllDomains": "All domains and accounts",
        "Directory": "Directory",
        "Monitor": "Monitors and logs",
        "CanReleaseQueues": "Release queues",
        "CanRejectQueues": "Reject queued messages",
        "CanTuneLoggerSettings": "Log options and deletion",
        "Domain": "This domain (see and enter its pages)",
        "CanCreateAccounts": "Create and remove accounts",
        "CanCreateAliases": "Aliases",
        "CanCreateGroups": "Groups",
        "CanCreateForwarders": "Forwarders",
        "CanCreateLists": "Mailing lists",
        "CanModifyRules": "Rules of accounts",
        "CanModifyRPOP": "Collected mailboxes of accounts",
        "CanModifySkins": "Pages of the web mail",
        "CanPostAlerts": "Alerts",
        "CanAccessMailboxes": "Read all mailboxes",
        "WebSite": "Web sites of accounts",
        "BasicAccountSettings": "Set passwords",
        "WebUserSettings": "Web mail preferences",
        "CertificateType": "Certificate",
        "CanAdminSubDomains": "Domains that name this one as administrator",
    }
)


def grouped(names: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Component names under the headings of the index, in their own order."""
    found = [(heading, [n for n in names if COMPONENTS.get(n, OTHER).heading == heading]) for heading in HEADINGS]
    return [(heading, members) for heading, members in found if members]


def size(value: object) -> str:
    """Bytes for people: 812, 14 KB, 3.2 MB."""
    text = str(value)
    if not text.isdigit():
        return text
    number = float(text)
    if number < 1024:
        return f"{text} bytes"
    for unit in ("KB", "MB", "GB"):
        number /= 1024
        if number < 1024 or unit == "GB":
            break
    return f"{number:.1f} {unit}" if number < 10 else f"{number:.0f} {unit}"
