"""Fused operations of weather transformers for any torch model."""

from xwx_kernels.multi_convs import multi_convs

__all__ = ["multi_convs"]
