"""One connection: TLS and records on a socket, who is accepted, whether the other end is still there."""
