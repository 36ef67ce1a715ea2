"""What is sent, in which pieces, what of it is there, and the two dialogues about it."""
