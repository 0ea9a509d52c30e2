"""Mailboxes on disk: mbox, mdir, index, ACL, flags, search."""
