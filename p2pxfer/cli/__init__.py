"""The commands: options, events as JSON or as a display for people, exit codes."""
