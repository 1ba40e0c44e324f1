"""Instruction tuning: a chat model learns to answer about videos."""
