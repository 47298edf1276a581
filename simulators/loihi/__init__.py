"""Loihi programs: a bit-exact twin in torch, and the program itself on Lava's processes."""
