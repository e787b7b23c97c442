"""Read and write the bytes of HTTP, JSON and the dialects: no await, no I/O, no shared state."""
