"""Batched Krylov solvers against dense linear algebra."""

from __future__ import annotations

import pytest
import torch

from xwx.diffusion.solvers import cg, gmres

B, M = 3, 7


def systems(kind, dtype=torch.float64, members=B, size=M):
    """Return matrices, each member's its own, and right-hand sides."""
    g = torch.Generator().manual_seed(1)
    root = torch.randn(members, size, size, generator=g, dtype=torch.float64)
    b = torch.randn(members, size, generator=g, dtype=torch.float64)
    eye = torch.eye(size, dtype=torch.float64)
    matrix = {
        "any": root + 0.5 * eye,
        "positive": root @ root.mT / size + 0.5 * eye,
        "indefinite": root + root.mT,
    }[kind]
    return matrix.to(dtype), b.to(dtype)


class Counted:
    """A matrix's action, with what it was asked for."""

    def __init__(self, matrix):
        self.matrix, self.asked = matrix, []

    def __call__(self, v):
        self.asked.append(v)
        return (self.matrix @ v[..., None])[..., 0]


@pytest.mark.parametrize(
    ("solver", "kind"),
    [(gmres, "any"), (gmres, "indefinite"), (gmres, "positive"), (cg, "positive")],
)
@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-10), (torch.float32, 1e-3)])
def test_as_many_iterations_as_unknowns_solve(solver, kind, dtype, close):
    matrix, b = systems(kind, dtype)
    out = solver(Counted(matrix), b, M)
    torch.testing.assert_close(out.x, torch.linalg.solve(matrix, b), rtol=close, atol=close)
    assert out.x.dtype == dtype


@pytest.mark.parametrize("iterations", [1, 2, 4])
@pytest.mark.parametrize("kind", ["any", "indefinite"])
def test_gmres_leaves_the_least_residual_of_its_space(kind, iterations):
    matrix, b = systems(kind)
    x = gmres(Counted(matrix), b, iterations).x
    for member in range(B):
        space = [b[member]]
        for _ in range(iterations - 1):
            space.append(matrix[member] @ space[-1])
        space = torch.stack(space, dim=-1)
        best = torch.linalg.lstsq(matrix[member] @ space, b[member, :, None]).solution
        torch.testing.assert_close(x[member], (space @ best)[:, 0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("iterations", [1, 2, 4])
def test_cg_leaves_the_least_energy_of_its_space(iterations):
    matrix, b = systems("positive")
    x = cg(Counted(matrix), b, iterations).x
    for member in range(B):
        space = [b[member]]
        for _ in range(iterations - 1):
            space.append(matrix[member] @ space[-1])
        q = torch.linalg.qr(torch.stack(space, dim=-1)).Q
        inner = torch.linalg.solve(q.T @ matrix[member] @ q, q.T @ b[member])
        torch.testing.assert_close(x[member], q @ inner, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("solver", [gmres, cg])
def test_the_solution_in_what_was_asked_for(solver):
    matrix, b = systems("positive")
    action = Counted(matrix)
    out = solver(action, b, 4)
    assert out.weights.shape == (B, len(action.asked)) == (B, 4)
    again = sum(out.weights[:, j, None] * v for j, v in enumerate(action.asked))
    torch.testing.assert_close(out.x, again, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("solver", [gmres, cg])
def test_few_distinct_eigenvalues_need_few_iterations(solver):
    """I plus rank 2 has three eigenvalues; a member whose b is an eigenvector needs one call."""
    g = torch.Generator().manual_seed(4)
    low = torch.randn(M, 2, generator=g, dtype=torch.float64)
    matrix = (torch.eye(M, dtype=torch.float64) + low @ low.T).expand(2, M, M)
    vectors = torch.linalg.eigh(matrix[0]).eigenvectors
    b = torch.stack([torch.randn(M, generator=g, dtype=torch.float64), 3 * vectors[:, -1]])
    action = Counted(matrix)
    out = solver(action, b, M)
    torch.testing.assert_close(out.x, torch.linalg.solve(matrix, b), rtol=1e-10, atol=1e-10)
    assert len(action.asked) == 3
    alone = Counted(matrix[1:])
    solver(alone, b[1:], M)
    assert len(alone.asked) == 1


@pytest.mark.parametrize("solver", [gmres, cg])
def test_nothing_to_solve_is_nothing_asked(solver):
    matrix, b = systems("positive")
    action = Counted(matrix)
    out = solver(action, torch.zeros_like(b), 3)
    assert not action.asked
    assert torch.equal(out.x, torch.zeros_like(b))
    assert out.weights.shape == (B, 0)
    mixed = solver(action, b * torch.tensor([[1.0], [0.0], [1.0]], dtype=b.dtype), M).x
    assert torch.equal(mixed[1], torch.zeros(M, dtype=b.dtype))
    torch.testing.assert_close(mixed[0], torch.linalg.solve(matrix[0], b[0]), rtol=1e-9, atol=1e-9)


def test_cg_stops_each_member_where_its_matrix_is_not_positive():
    eigenvalues = torch.tensor([[1.0, 2, 3, 4], [1, 2, 3, -1], [-2, -2, -3, 1]])
    matrix = torch.diag_embed(eigenvalues.double())
    b = torch.tensor([[1.0, 1, 1, 1], [1, 1, 1, 1.5], [1, 1, 1, 0.1]], dtype=torch.float64)
    out = cg(Counted(matrix), b, 4).x
    torch.testing.assert_close(out[0], 1 / eigenvalues[0].double(), rtol=1e-12, atol=1e-12)
    assert torch.equal(out[2], torch.zeros(4, dtype=torch.float64))  # at the first direction
    # The second has curvature (1 + 2 + 3 - 2.25) / 5.25 > 0 along b, then a direction without.
    along = float(b[1] @ b[1] / (b[1] @ matrix[1] @ b[1]))
    r = b[1] - along * matrix[1] @ b[1]
    p = r + (r @ r) / (b[1] @ b[1]) * b[1]
    assert float(p @ matrix[1] @ p) < 0
    torch.testing.assert_close(out[1], along * b[1], rtol=1e-14, atol=0)


@pytest.mark.parametrize(("solver", "kind"), [(gmres, "any"), (cg, "positive")])
def test_a_member_has_the_same_bits_alone(solver, kind):
    """With an action of the same bits, here a diagonal one: also where others take longer."""
    _, b = systems(kind)
    scale = torch.linspace(0.5, 3, M, dtype=torch.float64) * torch.ones(B, 1, dtype=torch.float64)
    scale[1, 2:] = 1.0
    together = solver(lambda v: scale * v, b, 5).x
    for member in range(B):
        one = scale[member : member + 1]
        alone = solver(lambda v, one=one: one * v, b[member : member + 1], 5).x
        assert torch.equal(alone[0], together[member])


@pytest.mark.parametrize("solver", [gmres, cg])
def test_a_member_that_is_not_finite_leaves_the_others_alone(solver):
    matrix, b = systems("positive")
    broken = matrix.clone()
    broken[1] = torch.nan
    out = solver(Counted(broken), b, M).x
    torch.testing.assert_close(out[[0, 2]], torch.linalg.solve(matrix, b)[[0, 2]])
    assert torch.equal(out[1], torch.zeros(M, dtype=b.dtype))


@pytest.mark.parametrize(
    "enough", [{"relative": 1e-2}, {"absolute": 1e-2}, {"relative": 1e-4, "absolute": 3e-2}]
)
def test_cg_stops_each_member_where_it_is_near_enough(enough):
    torch.manual_seed(5)
    # diagonal, so that a member has the same bits alone
    matrix = torch.diag(torch.logspace(-2, 0.5, 40, dtype=torch.float64))[None]
    b = torch.randn(1, 40, dtype=torch.float64) * torch.tensor([[1.0], [50.0], [0.001]])
    counted = Counted(matrix)
    x = cg(counted, b, 200, **enough).x
    left = (b - (matrix @ x[..., None])[..., 0]).square().mean(-1).sqrt()
    size = b.square().mean(-1).sqrt()
    bound = torch.maximum(
        enough.get("relative", 0.0) * size, torch.tensor(enough.get("absolute", 0.0))
    )
    assert bool((left <= bound).all())
    assert len(counted.asked) < 200
    # and no later: one call less leaves too much of a member
    fewer = cg(Counted(matrix), b, len(counted.asked) - 1).x
    left = (b - (matrix @ fewer[..., None])[..., 0]).square().mean(-1).sqrt()
    assert bool((left > bound).any())
    assert bool((x[2] == 0).all()) == ("absolute" in enough)  # it was near enough from the start
    for member in range(3):
        alone = cg(Counted(matrix), b[member : member + 1], 200, **enough).x
        assert torch.equal(alone[0], x[member])
