"""Protocols by which users reach their accounts: POP, IMAP, PWD."""
