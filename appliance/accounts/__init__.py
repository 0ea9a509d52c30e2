"""The gate to an account: open, log-in, mailboxes; requests are data, served by the account's own task."""
