"""The settings of the LOCAL module (manual, chapter 30)."""

from __future__ import annotations

from appliance.kernel.settings import Choice, Group, LogLevel, Number, Rows, Setting, Text, Time, YesNo

_QUEUE, _ROUTING, _ALERTS = "Queue", "Routing Settings", "Alerts"

LOG_LEVEL = Setting("LogLevel", LogLevel(), 2, "Log")
PROCESSORS = Setting("Processors", Number(0, 1000), 100, "Processes", _QUEUE, help="0 stops local delivery.")
KEEP_FULL = Setting("KeepFull", Time(), 86400, "Keep mail for a full account for", _QUEUE)
FULL_PERCENT = Setting("FullPercent", Number(1, 100), 100, "An account is full at (percent)", _QUEUE)
KEEP_DISABLED = Setting("KeepDisabled", Time(), 172800, "Keep mail if Mail Service is disabled for", _QUEUE)
WARN_AFTER = Setting("WarnAfter", Time(), 900, "Send Warnings after", _QUEUE)
FLOW_COUNT = Setting(
    "FlowCount", Number(0, 100000), 0, "Suspend the queue of an account that received (0: never)", _QUEUE
)
FLOW_PERIOD = Setting("FlowPeriod", Time(1), 15, "messages within", _QUEUE)
ALERT_ON = Setting("SendAlerts", YesNo(), True, "Send Alerts", _ALERTS)
ALERT_PERCENT = Setting("AlertPercent", Number(1, 100), 75, "if an account is full by (percent)", _ALERTS)
ALERT_TEXT = Setting("AlertText", Text(limit=1000), "account is over quota", "Alert Text", _ALERTS)
COLLECT = Setting("CollectStatistics", YesNo(), False, "Collect Account Statistics", "Statistics")
ENVELOPE_FIELD = Setting("EnvelopeField", Text(limit=64), "X-Real-To", "Envelope Recipients field", _ROUTING)
ALWAYS_ADD = Setting("AlwaysAddEnvelope", YesNo(), False, "Always Add", _ROUTING)
DIRECT_MAILBOX = Setting("DirectMailbox", YesNo(), True, "Direct Mailbox (mailbox#account)", _ROUTING)
ACCOUNT_DETAIL = Setting(
    "AccountDetail",
    Choice("Disabled", "Enabled", "Direct Mailbox"),
    "Disabled",
    "Account Detail (account+detail)",
    _ROUTING,
)
ALIAS_NAME = Setting("Name", Text(limit=128), "", "Local Address")
ALIAS_TARGET = Setting("Address", Text(limit=320), "", "Reroute To")
ALL_DOMAIN_ALIASES = Setting(
    "AllDomainAliases", Rows(ALIAS_NAME, ALIAS_TARGET), (), "All-Domain Aliases", "All-Domain Aliases"
)

LOCAL = Group(
    "LOCAL",
    "Local Delivery",
    (
        LOG_LEVEL,
        PROCESSORS,
        KEEP_FULL,
        FULL_PERCENT,
        KEEP_DISABLED,
        WARN_AFTER,
        FLOW_COUNT,
        FLOW_PERIOD,
        ALERT_ON,
        ALERT_PERCENT,
        ALERT_TEXT,
        COLLECT,
        ENVELOPE_FIELD,
        ALWAYS_ADD,
        DIRECT_MAILBOX,
        ACCOUNT_DETAIL,
        ALL_DOMAIN_ALIASES,
    ),
)
