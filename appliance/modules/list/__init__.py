"""The LIST module: what distributes mail to several addresses (manual, chapters 21 and 32)."""
