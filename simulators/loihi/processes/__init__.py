"""Lava Processes of an EP network, one noun a file. Lava's compiler executes every file of this folder."""
