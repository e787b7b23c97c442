"""Traces: spans of requests and attempts, exported by OTLP over HTTP; imported only where used."""
