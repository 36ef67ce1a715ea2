"""The Twisted part: drives the cores with sockets, files, threads and the clock.  No decisions."""
