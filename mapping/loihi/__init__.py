"""Loihi 2: a network in integers, proven free of overflow, placed on cores."""
