"""`gatewayctl keys`."""
