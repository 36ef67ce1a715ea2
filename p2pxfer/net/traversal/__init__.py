"""This machine's NAT, the kept connection to the server, ports that are mapped, and the punch."""
