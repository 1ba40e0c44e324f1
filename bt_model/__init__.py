"""The model side of btchat: video -> frames -> pooled tokens -> answer. No HTTP, no asyncio."""
