"""A simulation of the web process: its own code between simulated edges, replayed from a seed."""
