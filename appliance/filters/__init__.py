"""External filters: programs beside the server that look at messages before they are enqueued (manual, chapters 11 and 28)."""
