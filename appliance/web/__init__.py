"""The HTTP front: HTTP/1.1 and HTTP/2 on our own listener, sessions of browsers."""
