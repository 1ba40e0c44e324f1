"""What stands in every injected error, and in no answer of the server."""

SECRET = "at 0x7f3a2c001000 (/opt/secret/kernel.cu:123)"
