"""Automated mail processing (manual, chapter 28): one engine for the rules of the server, of domains and of accounts."""
