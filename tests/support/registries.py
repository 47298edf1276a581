"""What a test registers is known to it alone."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def restored(*registries: dict) -> Iterator[None]:
    """Registries that hold in the end what they held before."""
    known = [dict(registry) for registry in registries]
    try:
        yield
    finally:
        for registry, before in zip(registries, known):
            registry.clear()
            registry.update(before)
