"""The paper's claims at small scale: the grid of models, their training, measures and tests."""
