"""The WebAdmin Interface (port 8010): pages and templates on administration and web."""
