"""Analysis: statistics, and what rows of results say of machines, threats and models."""
