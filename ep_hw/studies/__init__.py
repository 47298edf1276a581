"""Studies: one network on many machines, option by option, under several threats; accuracy and what takes it."""
