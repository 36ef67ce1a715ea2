"""The client's private directory: its key, its settings, its contacts."""
