"""Fused operations of weather transformers for any torch model."""

from xwx_kernels.memory_attention import MemoryAttention, memory_attention
from xwx_kernels.multi_convs import multi_convs
from xwx_kernels.window_attention import window_attention

__all__ = ["MemoryAttention", "memory_attention", "multi_convs", "window_attention"]
