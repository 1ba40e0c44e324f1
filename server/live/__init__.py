"""Live sessions: frames come over a WebSocket while questions about the last of them are answered."""

PATH = "/v1/video/chat/stream"
"""The only one that is a WebSocket's."""
