"""Local delivery: addresses of our own domains, and mail into accounts (manual, chapter 30)."""
