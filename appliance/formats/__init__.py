"""Pure data: notation, addresses, headers, MIME, charsets, store form, dates, reports, wildcards. No I/O, no clock."""
