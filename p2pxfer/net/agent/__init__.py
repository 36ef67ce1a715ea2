"""The agent of a machine: it receives from contacts, exposes services and sends what is queued, with nobody there."""
