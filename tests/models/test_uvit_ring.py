"""Maps closed to a ring: torch's own circular padding is the reference."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from xwx.models.uvit.ring import close_ring


def maps(*shape):
    torch.manual_seed(len(shape))
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize("columns", [1, 2, 5])
def test_is_circular_padding(columns):
    x = maps(2, 3, 4, 5)
    want = F.pad(x, (columns, columns, 0, 0), mode="circular")
    torch.testing.assert_close(close_ring(x, columns), want, rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # torch's own, forwards
@pytest.mark.parametrize("columns", [1, 2, 4])  # 4 of 5: both ends are taken of the same cells
def test_gradients_of_first_and_second_order(columns):
    x = maps(1, 2, 3, 5).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: close_ring(x, columns), x, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(lambda x: close_ring(x, columns) ** 3, x)


def test_under_torch_func():
    x, v = maps(2, 3, 6), maps(2, 3, 10)
    out, back = torch.func.vjp(lambda x: close_ring(x, 2), x)
    want, reference = torch.func.vjp(lambda x: F.pad(x, (2, 2), mode="circular"), x)
    torch.testing.assert_close(out, want)
    torch.testing.assert_close(back(v)[0], reference(v)[0])
    many = torch.func.vmap(lambda x: close_ring(x, 2), in_dims=1)(x)
    torch.testing.assert_close(many, want.movedim(1, 0))


def test_no_columns_and_more_than_there_are():
    x = maps(1, 2, 3)
    assert close_ring(x, 0) is x
    assert close_ring(x, 3).shape[-1] == 9
    with pytest.raises(ValueError, match="4 columns beyond either end of a map that has 3"):
        close_ring(x, 4)


def test_keeps_the_memory_format():
    x = torch.randn(2, 8, 4, 6).contiguous(memory_format=torch.channels_last)
    assert close_ring(x, 1).is_contiguous(memory_format=torch.channels_last)
