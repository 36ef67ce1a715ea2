"""What NATs do, and what is dialled when: discovery, mapped ports, strategies."""
