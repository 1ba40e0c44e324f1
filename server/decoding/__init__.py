"""Disposable decode children and their pool."""
