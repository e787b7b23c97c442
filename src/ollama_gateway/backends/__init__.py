"""Upstream: the servers that run Ollama, how they are reached and which one is asked next."""
