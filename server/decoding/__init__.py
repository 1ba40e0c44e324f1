"""The pool of decode children, for the event loop."""
