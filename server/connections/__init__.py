"""How clients are connected: the address, the HTTP server and its limits."""
