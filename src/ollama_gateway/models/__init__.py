"""Models as the operator wants them: plain values and functions, made of settings once."""
