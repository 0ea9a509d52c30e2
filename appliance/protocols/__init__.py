"""Pure wire objects, both sides of each protocol: bytes in, commands out; replies in, bytes out. No I/O, no clock."""
