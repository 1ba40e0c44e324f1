"""Settings of the server and of training runs: reading their files, refusing their values in one line."""
