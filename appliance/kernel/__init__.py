"""What every room stands on: supervisor, channel, listener, disk, journal, log, settings, operations, schedule."""
