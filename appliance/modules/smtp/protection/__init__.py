"""What protects the receiving side from strangers: lists of offenders, limits, devices (manual, chapter 7)."""
