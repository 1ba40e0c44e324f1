"""Instruction tuning: a chat model learns to answer about videos (training spec, section 2)."""
