"""RPOP: collecting mail from mailboxes on other servers, over POP3 and IMAP (manual, chapter 31)."""
