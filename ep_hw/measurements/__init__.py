"""Measurements on machines that are no evaluation: what they send, and what their gradients are worth."""
