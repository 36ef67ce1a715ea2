"""Which kinds of NAT the product connects with each other directly, how soon, and with how many SYNs."""
