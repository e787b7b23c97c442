"""Client sockets, and HTTP/1.1 on them."""
