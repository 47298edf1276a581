"""Analog crossbars: a network on tiles of devices, with converters and wires."""
