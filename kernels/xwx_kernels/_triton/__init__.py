"""Implementations for GPUs, imported only when chosen."""
