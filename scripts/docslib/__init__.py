"""What the reference pages are made of: read from the code, so that they cannot say something else than it does."""
