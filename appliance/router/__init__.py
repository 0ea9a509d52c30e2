"""One question, 'where does this address go?', for every purpose."""
