"""Receiver, spool, enqueuer, queues, dequeuer, reports."""
