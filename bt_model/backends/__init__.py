"""Chat models that answer questions about video tokens."""
