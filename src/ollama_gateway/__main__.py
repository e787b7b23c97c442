"""`gatewayctl`, also as `python -m ollama_gateway`."""
