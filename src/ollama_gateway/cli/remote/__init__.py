"""`gatewayctl` from another machine: which gateway a command is for, and how that one is asked."""
