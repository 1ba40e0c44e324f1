"""Receiving and storing client files."""
