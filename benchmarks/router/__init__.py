"""Speed of the router, beside model servers and a second engine."""
