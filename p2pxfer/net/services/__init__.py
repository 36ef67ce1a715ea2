"""What runs over a session of channels: pipes, forwarded connections, chat."""
