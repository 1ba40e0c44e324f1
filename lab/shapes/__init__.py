"""Procedural corpus of moving shapes: scenes, their clips and pictures, and what can be said about them."""
