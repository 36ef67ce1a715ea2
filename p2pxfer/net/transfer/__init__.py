"""The sending and the receiving side with their disks."""
