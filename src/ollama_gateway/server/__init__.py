"""The client side: routes, bodies, listings, the admin listener, and errors as HTTP answers."""
