"""The window at the points where the wrong forms in circulation show, and at its extremes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from draw_model.attention import Attention, Window, filterbank, read, window_of, write
from tests import reference_draw as reference

HEIGHT, WIDTH, N = 7, 9, 4


def attention(n: int = N, height: int = HEIGHT, width: int = WIDTH) -> Attention:
    return Attention(6, (1, height, width), n, 0.03).double()


def raw_values(*values: float) -> torch.Tensor:
    return torch.tensor([values], dtype=torch.float64)


def exact_window(n: int, g: float, delta: float, sigma: float) -> Window:
    x = torch.tensor([g], dtype=torch.float64)
    one = torch.ones_like(x)
    return Window(n=n, g_x=x, g_y=x, sigma=sigma * one, delta=delta * one, gamma=one)


def centres(window: Window, g: torch.Tensor) -> torch.Tensor:
    """Filter centres recovered from filters on a long axis, not from the formula that made them."""
    pixels = torch.arange(400, dtype=torch.float64)
    offsets = torch.arange(window.n, dtype=torch.float64) - (window.n - 1) / 2
    return filterbank(g + 200, window.delta, window.sigma, offsets, pixels) @ pixels - 200


@pytest.mark.parametrize("n", [2, 5, 8])
def test_filters_equal_the_reference_counted_from_1(n: int) -> None:
    raw = raw_values(0.3, -0.2, 0.7, -0.4, 0.5)
    window = window_of(raw, n, HEIGHT, WIDTH)
    values = reference.window(raw[0].tolist(), n, HEIGHT, WIDTH)
    for ours, theirs in zip(
        attention(n).filters(window), reference.banks(values, n, HEIGHT, WIDTH), strict=True
    ):
        np.testing.assert_allclose(ours[0].numpy(), theirs, rtol=1e-12, atol=1e-300)
    picture = reference.picture(values, n)
    np.testing.assert_allclose(window.as_picture()[0].numpy(), picture, rtol=1e-12)


@pytest.mark.parametrize("n", [2, 3, 5, 12])
def test_mean_of_the_centres_is_the_windows_centre(n: int) -> None:
    window = window_of(raw_values(0.1, -0.3, 0.0, -1.0, 0.0), n, HEIGHT, WIDTH)
    torch.testing.assert_close(centres(window, window.g_x).mean(1), window.g_x)
    torch.testing.assert_close(centres(window, window.g_y).mean(1), window.g_y)


@pytest.mark.parametrize("n", [2, 5, 12])
def test_first_window_spans_first_to_last_pixel(n: int) -> None:
    torch.manual_seed(0)
    fresh = attention(n, 28, 28)
    window = fresh(torch.zeros(1, 6, dtype=torch.float64))
    places = centres(window, window.g_x)[0]
    assert places[0].item() == pytest.approx(0, abs=1e-9)
    assert places[-1].item() == pytest.approx(27, abs=1e-9)
    assert window.as_picture().tolist() == [pytest.approx([13.5, 13.5, 27, 1])]


@pytest.mark.parametrize(("n", "side", "seen"), [(12, 54, 1.0), (5, 28, 0.87), (2, 28, 0.08)])
def test_first_window_sees_what_is_within_a_few_sigma_of_a_filter(
    n: int, side: int, seen: float
) -> None:
    image = torch.rand(1, 1, side, side, dtype=torch.float64, requires_grad=True)
    layer = attention(n, side, side)
    layer.read(layer(torch.zeros(1, 6, dtype=torch.float64)), image).sum().backward()
    assert image.grad is not None
    share = (image.grad > 1e-3 * image.grad.max()).double().mean().item()
    assert share == pytest.approx(seen, abs=0.01)


@pytest.mark.parametrize(("n", "side"), [(12, 100), (5, 28), (2, 28)])
def test_first_window_with_a_sigma_of_half_a_stride_sees_every_pixel(n: int, side: int) -> None:
    sigma = (side - 1) / (2 * (n - 1))
    layer = Attention(6, (1, side, side), n, 0.03, sigma).double()
    window = layer(torch.zeros(1, 6, dtype=torch.float64))
    assert window.sigma.item() == pytest.approx(sigma, rel=1e-6)
    assert window.delta.item() == pytest.approx(2 * sigma)
    image = torch.rand(1, 1, side, side, dtype=torch.float64, requires_grad=True)
    layer.read(window, image).sum().backward()
    assert image.grad is not None
    assert image.grad.min() > 0.05 * image.grad.max()


def test_window_of_stride_1_and_tiny_sigma_reads_the_image_back() -> None:
    image = torch.rand(1, 3, 8, 8, dtype=torch.float64)
    whole = exact_window(8, 3.5, 1.0, 1e-3)
    assert torch.equal(attention(8, 8, 8).read(whole, image), image)


def test_writing_with_the_transposed_filters_puts_a_patch_back() -> None:
    patch = torch.rand(1, 3, 3, 3, dtype=torch.float64)
    small = attention(3, 8, 8)
    window = exact_window(3, 4.0, 1.0, 1e-3)  # pixels 3, 4, 5
    canvas = small.write(window, patch)
    assert torch.equal(canvas[:, :, 3:6, 3:6], patch)
    assert canvas.sum().item() == pytest.approx(patch.sum().item())
    assert torch.equal(small.read(window, canvas), patch)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0])
def test_exponent_is_right_away_from_variance_one_half(sigma: float) -> None:
    window = exact_window(2, 200.0, 60.0, sigma)
    pixels = torch.arange(400, dtype=torch.float64)
    offsets = torch.tensor([-0.5, 0.5], dtype=torch.float64)
    row = filterbank(window.g_x, window.delta, window.sigma, offsets, pixels)[0, 0]
    for distance in (1, 2):
        fall = row[170 + distance] / row[170]
        assert fall.item() == pytest.approx(np.exp(-(distance**2) / (2 * sigma**2)), rel=1e-9)


def test_gradient_of_the_filters_is_that_of_the_plain_formula() -> None:
    """By autograd's own operations, at windows inside, beside and beyond the image."""
    torch.manual_seed(0)
    pixels = torch.arange(30, dtype=torch.float64)
    offsets = torch.arange(5, dtype=torch.float64) - 2
    values = [14.5, -3.0, 33.0, 8.0], [3.0, 1.0, 2.0, 0.1], [1.0, 2.5, 0.7, 0.05]
    places = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in values]
    centre, delta, sigma = places
    weights = torch.randn(4, 5, 30, dtype=torch.float64)
    ours = torch.autograd.grad((filterbank(*places, offsets, pixels) * weights).sum(), places)
    mu = centre[:, None] + offsets * delta[:, None]
    plain = torch.softmax(-((pixels - mu[..., None]) ** 2) / (2 * sigma[:, None, None] ** 2), 2)
    theirs = torch.autograd.grad((plain * weights).sum(), places)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    assert all((gradient != 0).all() for gradient in ours)
    assert torch.autograd.gradcheck(lambda *p: filterbank(*p, offsets, pixels), places)


def test_gamma_multiplies_reading_and_divides_writing() -> None:
    f_y = torch.softmax(torch.randn(2, 3, 5), 2)
    f_x = torch.softmax(torch.randn(2, 3, 6), 2)
    image, patch = torch.rand(2, 1, 5, 6), torch.rand(2, 1, 3, 3)
    one, four = torch.ones(2), torch.full((2,), 4.0)
    assert torch.equal(read(f_y, f_x, four, image), 4 * read(f_y, f_x, one, image))
    assert torch.equal(write(f_y, f_x, four, patch), write(f_y, f_x, one, patch) / 4)


FAR = st.floats(-1e6, 1e6, width=32)


@settings(max_examples=40, deadline=None)
@given(st.tuples(FAR, FAR, FAR, FAR, FAR), st.sampled_from([2, 5]), st.booleans())
def test_any_window_is_finite_with_finite_gradients(
    values: tuple[float, ...], n: int, mild: bool
) -> None:
    scale = 1e-5 if mild else 1.0
    raw = torch.tensor([values], requires_grad=True)
    layer = Attention(6, (1, HEIGHT, WIDTH), n, 0.03)
    window = window_of(raw * scale, n, HEIGHT, WIDTH)
    for rows in layer.filters(window):
        torch.testing.assert_close(rows.sum(2), torch.ones(1, n), rtol=1e-5, atol=0)
    seen = layer.read(window, torch.rand(1, 1, HEIGHT, WIDTH))
    drawn = layer.write(window, torch.rand(1, 1, n, n))
    assert seen.isfinite().all()
    assert drawn.isfinite().all()
    (seen.sum() + drawn.sum() + window.as_picture().sum()).backward()
    assert raw.grad is not None
    assert raw.grad.isfinite().all()


def test_gradients_equal_finite_differences() -> None:
    torch.manual_seed(2)
    layer = attention(3, 4, 5)
    raw = (torch.randn(2, 5, dtype=torch.float64) / 2).requires_grad_()
    images = torch.rand(2, 2, 4, 5, dtype=torch.float64, requires_grad=True)
    patch = torch.rand(2, 2, 3, 3, dtype=torch.float64, requires_grad=True)

    def place(values: torch.Tensor) -> Window:
        return window_of(values, 3, 4, 5)

    check = torch.autograd.gradcheck
    assert check(lambda values: layer.filters(place(values)), (raw,))
    assert check(lambda values, x: layer.read(place(values), x), (raw, images))
    assert check(lambda values, w: layer.write(place(values), w), (raw, patch))


def test_window_stays_in_float32_under_autocast() -> None:
    layer = Attention(6, (1, HEIGHT, WIDTH), N, 0.03)
    h, images, patch = torch.randn(2, 6), torch.rand(2, 1, HEIGHT, WIDTH), torch.rand(2, 1, N, N)
    plain = layer(h)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        window = layer(h)
        seen, drawn = layer.read(window, images), layer.write(window, patch.bfloat16())
    assert torch.equal(window.as_picture(), plain.as_picture())
    assert seen.dtype == drawn.dtype == torch.float32
    assert torch.equal(seen, layer.read(plain, images))


def test_images_in_bfloat16_are_read_to_its_precision() -> None:
    torch.manual_seed(5)
    raw, x = torch.randn(8, 5), torch.rand(8, 2, 30, 40)
    layer = Attention(6, (1, 30, 40), 5, 0.03)

    def read_from(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        values = raw.clone().requires_grad_()
        window = window_of(values, 5, 30, 40)
        seen = layer.read(window, images)
        assert seen.dtype == torch.float32
        (gradient,) = torch.autograd.grad((seen * torch.linspace(-1, 1, 5)).sum(), values)
        return seen.detach(), gradient

    (exact, slope), (seen, half_slope) = read_from(x), read_from(x.bfloat16())
    bit = 2**-8
    assert 0 < float((seen - exact).abs().max() / exact.abs().max()) < 2 * bit
    assert float((half_slope - slope).norm() / slope.norm()) < 4 * bit


def after_a_step(rate: float) -> tuple[Window, Window]:
    """First windows of the same hidden states, and those after one step of Adam."""
    torch.manual_seed(3)
    layer = Attention(6, (1, HEIGHT, WIDTH), N, 0.03, 2.0, rate)
    h, images = torch.randn(5, 6), torch.rand(5, 1, HEIGHT, WIDTH)
    first = layer(h)
    optimizer = torch.optim.Adam(layer.parameters(), lr=1e-3)
    layer.read(first, images).square().sum().backward()
    optimizer.step()
    return first, layer(h)


@pytest.mark.parametrize("rate", [0.25, 4.0])
def test_window_rate_keeps_the_first_windows_and_moves_them_by_that_much(rate: float) -> None:
    plain, moved = after_a_step(1.0)
    first, then = after_a_step(rate)
    torch.testing.assert_close(first.as_picture(), plain.as_picture())
    for name in ("g_x", "g_y"):  # straight in what the layer says
        step = (getattr(moved, name) - getattr(plain, name)).detach()
        scaled = (getattr(then, name) - getattr(first, name)).detach()
        assert step.abs().max() > 1e-3
        torch.testing.assert_close(scaled, rate * step, rtol=1e-2, atol=1e-5)
