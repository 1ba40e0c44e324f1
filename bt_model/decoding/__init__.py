"""Disposable children that decode videos, and their pool; for the server and for training. No torch here."""
