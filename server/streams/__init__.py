"""Answer pieces to server-sent events."""
