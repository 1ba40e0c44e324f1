"""Clips read for training: lists, decode children, batches in the order of their steps on every rank."""
