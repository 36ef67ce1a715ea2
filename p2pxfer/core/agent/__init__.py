"""What an agent is told and what it tells: its configuration, and the messages of its socket."""
