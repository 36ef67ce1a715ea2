"""First contact: one-time codes, the proof of a code, and what a contact may do."""
