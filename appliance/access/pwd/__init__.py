"""The PWD module: change of passwords, and the command line (manual, PWD module)."""
