"""Implementations for the CPU, imported only when chosen."""
