"""The log: one event a line, and what every line of a request has in common."""
