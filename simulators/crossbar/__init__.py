"""The analog crossbar: devices (physics), periphery (converters), array (cells read both ways), chip (the machine)."""
