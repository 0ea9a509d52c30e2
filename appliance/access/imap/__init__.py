"""The IMAP module: access to mailboxes from mail programs (manual, IMAP module)."""
