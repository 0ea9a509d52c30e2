"""Members of a cluster; a single server is its own coordinator."""
