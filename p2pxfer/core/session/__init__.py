"""What two peers say to each other, and what runs over paths that come and go."""
