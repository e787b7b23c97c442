"""Downstream: sockets, connections, routes, and the one place an error becomes HTTP."""
