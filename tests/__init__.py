"""The project's tests; a package of its own, since one of that name comes with lava-nc."""
