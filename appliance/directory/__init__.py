"""Directory records, units, schema and search (the store only)."""
