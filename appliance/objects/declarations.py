"""The settings of domains and accounts, each declared once (manual, chapters 18 and 20)."""

from __future__ import annotations

from appliance.formats.data import Value
from appliance.formats.passwords import Encryption
from appliance.kernel.settings import (
    Choice,
    Group,
    Limit,
    LogLevel,
    Raw,
    Secret,
    SecretText,
    Setting,
    Size,
    Text,
    Time,
    Words,
    YesNo,
)

#: Services that a domain or an account can have switched off.
SERVICES = ("Mail", "POP", "IMAP", "PWD", "ACAP", "WebMail", "WebSite", "Relay", "Mobile", "FTP", "MAPI", "TLS")


def _services(value: Value) -> Value:
    words = (
        value if isinstance(value, list) else [w.strip() for w in value.split(",")] if isinstance(value, str) else None
    )
    if words is None:
        raise ValueError("a list of services is expected")
    known = {service.casefold(): service for service in SERVICES}
    found: list[Value] = []
    for word in words:
        if not isinstance(word, str) or (word and word.casefold() not in known):
            raise ValueError(f"{word!r} is not a service: one of {', '.join(SERVICES)} is expected")
        if word:
            found.append(known[word.casefold()])
    return found


def _array(value: Value) -> Value:
    if not isinstance(value, list):
        raise ValueError("an array is expected")
    return value


def _dictionary(value: Value) -> Value:
    if not isinstance(value, dict):
        raise ValueError("a dictionary is expected")
    return value


class Services(Raw):
    """A set of services, stored as an array of their names."""

    control = "services"

    def __init__(self) -> None:
        super().__init__(_services)


_NAMES = "Names and passwords"
_AUTHENTICATION = "Authentication"
_STORAGE = "Storage"
_OPTIONS = "Options"

REAL_NAME = Setting("RealName", Text(), "", "Real Name", _NAMES, attribute="cn", column="RealName", grantable=True)
PASSWORD = Setting("Password", SecretText(), Secret(""), "Password", _NAMES, attribute="userPassword", secret=True)
USE_PASSWORD = Setting("UseAppPassword", YesNo(), True, "Password: allow to use", _AUTHENTICATION, grantable=True)
USE_OS_PASSWORD = Setting("UseSysPassword", YesNo(), False, "Server OS Password: allow to use", _AUTHENTICATION)
USE_EXTERNAL = Setting("UseExtPassword", YesNo(), False, "External Authentication: allow to use", _AUTHENTICATION)
PASSWORD_CHANGE = Setting("PWDAllowed", YesNo(), True, "Password: allow to modify", _AUTHENTICATION, grantable=True)
ENCRYPTION = Setting(
    "PasswordEncryption",
    Choice(
        (Encryption.U_CRPT.value, "one-way (U-crpt)"),
        (Encryption.A_CRPT.value, "reversible (A-crpt)"),
        (Encryption.CLEAR.value, "clear"),
    ),
    Encryption.U_CRPT.value,
    "Password Encryption",
    _AUTHENTICATION,
    help="CRAM-MD5 and APOP need a reversible form; SCRAM works with the one-way form.",
    grantable=True,
)
OS_USER_NAME = Setting("OsUserName", Text(limit=128), "*", "Server OS UserName", _AUTHENTICATION, grantable=True)
SECURE_METHOD = Setting(
    "RequireAPOP",
    YesNo(),
    False,
    "Secure Method Required",
    _AUTHENTICATION,
    synonyms=("SecureMethodRequired",),
    grantable=True,
)
RECOVERY = Setting("RecoverPassword", Text(limit=256), "", "Recovery address", _AUTHENTICATION, grantable=True)
ACCESS_MODES = Setting("AccessModes", Services(), list(SERVICES), "Enabled Services", "Services", grantable=True)
MAX_ACCOUNT_SIZE = Setting("MaxAccountSize", Size(), None, "Mail Storage", _STORAGE, column="Storage", grantable=True)
MAX_MAILBOXES = Setting("MaxMailboxes", Limit(), None, "Mailboxes", _STORAGE, grantable=True)
MAX_WEB_SIZE = Setting("MaxWebSize", Size(), 5 << 20, "Web Storage", _STORAGE, grantable=True)
MAX_WEB_FILES = Setting("MaxWebFiles", Limit(), 100, "Web Files", _STORAGE, grantable=True)
OUTFLOW = Setting(
    "MailOutFlow",
    Limit(),
    1000,
    "Outgoing recipients an hour",
    _OPTIONS,
    help="Of mail that leaves this server, sent with the account's password.",
    grantable=True,
)
MAIL_TO_ALL = Setting("MailToAll", YesNo(), True, "Accept Mail to all", _OPTIONS, grantable=True)
RPOP_ALLOWED = Setting("RPOPAllowed", YesNo(), False, "RPOP Accounts: allow to modify", _OPTIONS, grantable=True)
MAILBOX_TYPE = Setting(
    "DefaultMailboxType",
    Choice(("Text Mailbox", "Text Mailbox (.mbox)"), ("MailDir Mailbox", "MailDir Mailbox (.mdir)")),
    "Text Mailbox",
    "New Mailboxes",
    _OPTIONS,
    grantable=True,
)
FULL_TEXT = Setting(
    "FullTextIndex",
    YesNo(),
    False,
    "Full-Text Index",
    _OPTIONS,
    help="Searches in texts of messages are many times faster; takes about as much space as the texts.",
    grantable=True,
)
EXTERNAL_INBOX = Setting(
    "ExternalINBOX",
    YesNo(),
    False,
    "External INBOX",
    _OPTIONS,
    help="INBOX is the file at the domain's External INBOX location, shared with other programs.",
)
RULES = Setting("Rules", Raw(_array), [], "Automated Rules", "Rules")
#: What an administrator prefers to see on the WebAdmin pages, realm by realm.
PREFERENCES = Setting("WebAdminPreferences", Raw(_dictionary), {}, "WebAdmin Preferences", "Preferences")
RULES_ALLOWED = Setting(
    "RulesAllowed",
    Choice(
        ("No", "No"),
        ("Filter Only", "Filter Only"),
        ("All But Exec", "All But Exec"),
        ("Any", "Any"),
    ),
    "All But Exec",
    "Automated Rules: allow to modify",
    _OPTIONS,
    help="What the user may put into rules of his own. The automatic answer is always his.",
    grantable=True,
)
#: Rules that run for every account of a domain.
DOMAIN_RULES = Setting("Rules", Raw(_array), [], "Domain-Wide Rules", "Rules")
ALIASES = Setting("Aliases", Words(limit=1000), (), "Aliases", _NAMES, column="Aliases")
#: Template only: what a new account starts with.
INITIAL_MAILBOXES = Setting("InitialMailboxes", Words(limit=100), (), "Additional Mailboxes", "Template")
INITIAL_SUBSCRIPTION = Setting("InitialSubscription", Words(limit=100), (), "Initial Subscription", "Template")
INITIAL_ALIASES = Setting(
    "InitialMailboxAliases",
    Words(limit=100),
    (),
    "Initial Mailbox Aliases",
    "Template",
    help="One for each alias, the name and what it stands for with = between: boss=~chief",
)
INITIAL_GREETING = Setting("InitialGreeting", Text(limit=65536, lines=True), "", "Initial Greeting Message", "Template")

_ACCOUNT = (
    REAL_NAME,
    PASSWORD,
    USE_PASSWORD,
    USE_OS_PASSWORD,
    USE_EXTERNAL,
    PASSWORD_CHANGE,
    ENCRYPTION,
    OS_USER_NAME,
    SECURE_METHOD,
    RECOVERY,
    ACCESS_MODES,
    MAX_ACCOUNT_SIZE,
    MAX_MAILBOXES,
    MAX_WEB_SIZE,
    MAX_WEB_FILES,
    OUTFLOW,
    MAIL_TO_ALL,
    RPOP_ALLOWED,
    MAILBOX_TYPE,
    EXTERNAL_INBOX,
    FULL_TEXT,
    RULES_ALLOWED,
    RULES,
    PREFERENCES,
)
ACCOUNT = Group("Account", "Account settings", _ACCOUNT)
#: What a template says of the first opening of an account, and no account keeps.
INITIAL = (INITIAL_MAILBOXES, INITIAL_SUBSCRIPTION, INITIAL_ALIASES, INITIAL_GREETING)
ACCOUNT_TEMPLATE = Group("Template", "Account template", (*_ACCOUNT, *INITIAL))

_DOMAIN_SERVICES = "Services"
_LIMITS = "Limits"
_MAIL = "Unknown names and mail to all"
_FILES = "Files"

ACCOUNT_LOG = Setting("AccountsLogLevel", LogLevel(), 2, "Account Log", "Logs", grantable=True)
MAILBOX_LOG = Setting("MailboxesLogLevel", LogLevel(), 1, "Mailbox Log", "Logs", grantable=True)
DOMAIN_ACCESS_MODES = Setting(
    "DomainAccessModes", Services(), list(SERVICES), "Enabled Services", _DOMAIN_SERVICES, grantable=True
)
IP_MODE = Setting(
    "IPMode",
    Choice("All Available", "Manually Defined", "by DNS A-Record", "by DNS MX-Record"),
    "Manually Defined",
    "Assigned IP Addresses",
    "Network",
)
IP_ADDRESSES = Setting("IPAddresses", Words(limit=1000), (), "Addresses", "Network")
SENDING_ADDRESS = Setting(
    "SendingIPAddress",
    Choice("any", "first", "same"),
    "any",
    "Use IP Address",
    "SMTP Sending",
    help="first: mail of this domain goes out from its first address; same: from the address on which it was received.",
)
ACCOUNTS_LIMIT = Setting("AccountsLimit", Limit(), None, "Accounts", _LIMITS)
RPOP_LIMIT = Setting("RPOPLimit", Limit(), None, "RPOP Accounts", _LIMITS)
UNKNOWN_NAMES = Setting(
    "MailToUnknown",
    Choice(
        ("Rejected", "Rejected"),
        ("Discarded", "Discarded"),
        ("Rerouted to", "Rerouted to"),
        ("Accepted and Bounced", "Accepted and Bounced"),
    ),
    "Rejected",
    "Mail to Unknown Names is",
    _MAIL,
    grantable=True,
)
UNKNOWN_REROUTE = Setting("MailRerouteAddress", Text(limit=256), "", "Rerouted to", _MAIL, grantable=True)
CONSULT = Setting("ConsultExternalAuth", YesNo(), False, "Consult External Authenticator", _MAIL)
MAIL_TO_ALL_FOR = Setting(
    "MailToAllAction",
    Choice(
        "anybody",
        "Clients",
        "Authenticated Users",
        "Authenticated Domain Users",
        "Authenticated Administrator",
        "nobody",
    ),
    "nobody",
    "Mail to all is distributed for",
    _MAIL,
    grantable=True,
)
ALL_WITH_FORWARDERS = Setting("AllWithForwarders", YesNo(), False, "Send to Forwarders", _MAIL, grantable=True)
FOLDERING = Setting(
    "Foldering",
    Choice("flat", "2 Letters 1 Level", "2 Letters 2 Levels", "Hashed 1 Level", "Hashed 2 Levels"),
    "flat",
    "Foldering Method",
    _FILES,
)
RENAME_IN_PLACE = Setting("RenameInPlace", YesNo(), False, "Rename in Place", _FILES)
GENERATE_INDEX = Setting("FolderIndex", YesNo(), False, "Generate Index", _FILES)
EXTERNAL_LOCATION = Setting("ExternalLocation", Text(limit=1024), "", "External INBOX location", _FILES)
EXTERNAL_LOCK = Setting(
    "ExternalLock",
    Choice(("FileLevel", "FileLevel Locks"), ("FileRange", "FileRange Locks")),
    "FileLevel",
    "Synchronize using",
    _FILES,
)
ADMIN_DOMAIN = Setting("AdminDomainName", Text(limit=253), "", "Administrator Domain Name", "Administration")
CERTIFICATE = Setting(
    "CertificateType",
    Choice("No", "Server", "Custom"),
    "Server",
    "Secure Certificate To Use",
    "Security",
    grantable=True,
)

DOMAIN = Group(
    "Domain",
    "Domain settings",
    (
        ACCOUNT_LOG,
        MAILBOX_LOG,
        DOMAIN_ACCESS_MODES,
        IP_MODE,
        IP_ADDRESSES,
        SENDING_ADDRESS,
        ACCOUNTS_LIMIT,
        RPOP_LIMIT,
        UNKNOWN_NAMES,
        UNKNOWN_REROUTE,
        CONSULT,
        MAIL_TO_ALL_FOR,
        ALL_WITH_FORWARDERS,
        FOLDERING,
        RENAME_IN_PLACE,
        GENERATE_INDEX,
        EXTERNAL_LOCATION,
        EXTERNAL_LOCK,
        ADMIN_DOMAIN,
        CERTIFICATE,
        DOMAIN_RULES,
    ),
)

# Groups (manual, chapter 21).
GROUP_MEMBERS = Setting("Members", Words(limit=10000), (), "Members", "Members")
GROUP_REAL_NAME = Setting("RealName", Text(), "", "Real Name", "Group")
GROUP_SET_REPLY_TO = Setting("SetReplyTo", YesNo(), False, "Set Reply-To to Group", "Group")
GROUP_EXPAND = Setting("Expand", YesNo(), True, "Expand Other Groups", "Group")
GROUP_REMOVE_AUTHOR = Setting("RemoveAuthor", YesNo(), False, "Remove Author from Distribution", "Group")
GROUP_REMOVE_TO_CC = Setting("RemoveToAndCc", YesNo(), False, "Remove To and Cc from Distribution", "Group")
GROUP_REPORT_DELIVERY = Setting("FinalDelivery", YesNo(), True, "Report Delivery to Group", "Group")
GROUP = Group(
    "Group",
    "Group settings",
    (
        GROUP_REAL_NAME,
        GROUP_SET_REPLY_TO,
        GROUP_EXPAND,
        GROUP_REMOVE_AUTHOR,
        GROUP_REMOVE_TO_CC,
        GROUP_REPORT_DELIVERY,
        GROUP_MEMBERS,
    ),
)

# The General page: what belongs to the server's names.
MAIN_DOMAIN = Setting("DomainName", Text(limit=253), "", "Main Domain Name", "General")
LOGIN_ATTEMPTS = Setting(
    "LoginAttempts", Limit(), 10, "Suspend an account after so many failed log-ins", "Login Security"
)
LOGIN_PERIOD = Setting("LoginPeriod", Time(1, 86400), 600, "within", "Login Security")
HIDE_UNKNOWN = Setting("HideUnknown", YesNo(), True, "Hide Unknown Accounts", "Login Security")
CONSERVATIVE = Setting(
    "ConservativeInfoUpdates",
    YesNo(),
    False,
    "Use Conservative Info Updates",
    "Local Account Options",
    help="On: what an account knows of its mailboxes is written with each change. Off: together, when there is time; nothing is "
    "lost by that, it is found out again.",
)
GENERAL = Group("General", "General", (MAIN_DOMAIN, CONSERVATIVE))
ADVERTISE_SECURE = Setting(
    "AdvertiseSecureSASL",
    YesNo(),
    True,
    "Advertise Secure SASL methods",
    "Login Security",
    help="Methods that are not listed work all the same.",
)
LOGIN_SECURITY = Group(
    "LoginSecurity", "Login Security", (LOGIN_ATTEMPTS, LOGIN_PERIOD, HIDE_UNKNOWN, ADVERTISE_SECURE)
)
