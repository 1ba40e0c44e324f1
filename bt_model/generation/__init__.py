"""The engine that turns prompt segments into token streams."""
