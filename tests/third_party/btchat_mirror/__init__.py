"""A backend for btchat, as a package of its own."""
