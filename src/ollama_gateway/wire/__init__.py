"""What stands on the wire, read and written by pure functions: no await, no I/O, no state."""
