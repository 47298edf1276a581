"""Every door of the project, tried with inputs that no one should have made.

    python -m tests.fuzz 10000              # a long run, from the project's folder
"""
