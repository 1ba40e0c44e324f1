"""Answers that follow a JSON schema: its bounds, its compilation, and which tokens it allows next."""
