"""Every door of the project, by name."""

from tests.fuzz.door import Door
from tests.fuzz.doors import commands, data, networks, results, texts

_MODULES = (networks, texts, commands, data, results)
DOORS: dict[str, Door] = {door.name: door for module in _MODULES for door in module.DOORS}
