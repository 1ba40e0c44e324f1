"""`btchat weights`: lists, fetches, converts and verifies published weights."""
