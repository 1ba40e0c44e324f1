"""API keys: who they stand for, and what each may do."""
