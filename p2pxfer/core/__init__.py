"""The pure part: bytes, values and the time in; events, bytes and wake-up times out.  No I/O."""
