"""Learning: the rule of Equilibrium Propagation, training on images, tuning a chip in situ."""
