"""The engine process and the web side's client for it."""
