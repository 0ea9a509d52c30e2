"""Delivery modules: smtp, local."""
