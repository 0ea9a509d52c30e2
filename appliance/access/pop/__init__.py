"""The POP module (manual, POP module; RFC 1939)."""
