"""`gatewayctl audit`."""
