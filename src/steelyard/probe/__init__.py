"""Sensors of this machine: clock, memory, energy, host pressure, ceilings and installed engines."""
