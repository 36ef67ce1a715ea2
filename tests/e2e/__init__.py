"""The product as its users run it: whole programs, on loopback, with faults."""
