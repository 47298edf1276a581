"""`python -m ep_hw.cli`."""

from ep_hw.cli import main

main()
