"""Statistics elements, events and metrics seen from outside."""
