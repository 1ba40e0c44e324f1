"""The service side of btchat: HTTP, uploads, decode children, the engine process and its client."""
