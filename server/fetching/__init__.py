"""Videos from addresses that clients send; the only place of the server that calls another."""
