"""What training descends: losses as pure functions of what the models made of a batch."""
