"""The command line of the server, and what it shares with that of `btchat`."""
