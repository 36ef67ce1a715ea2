"""From an introduction to paths, and sessions that live on whichever paths there are."""
