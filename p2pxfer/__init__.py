"""p2pxfer: files between two machines behind NATs, directly where any TCP path exists."""

__version__ = "0.1.0"
