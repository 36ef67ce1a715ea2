"""The rendezvous server on its sockets, with its store."""
