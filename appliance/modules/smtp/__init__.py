"""SMTP: receiving mail from clients and other servers, and sending it on (manual, chapter 29)."""
