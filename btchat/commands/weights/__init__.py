"""`btchat weights`: what is published, getting it, converting it, checking it."""
