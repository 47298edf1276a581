"""Evaluation: machines under threats, cell by cell, shared out to workers, kept, checked and fitted to a budget."""
