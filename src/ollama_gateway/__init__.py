"""Ollama Gateway: several machines that run Ollama, as one Ollama."""
