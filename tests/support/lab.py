"""A memory device of a user's own, as a file."""

LAB = """
[lab]
title = "HfOx ReRAM of our lab"
source = "measured here"
g_min_us = 2.0
g_max_us = 60.0
age_domain_s = [0.0, 1e7]
constants = {read_noise = 0.01}
"""
