"""DRAW once more, in loops over the paper's own indices (i, a, b from 1), float64, slow and plain.

It shares no code with draw_model: weights come in as numpy arrays under the model's names.
"""

from math import exp, log, pi, sqrt

import numpy as np

Array = np.ndarray
Weights = dict[str, Array]


def sigmoid(value: float) -> float:
    return 1 / (1 + exp(-value))


def linear(weights: Weights, name: str, h: Array) -> list[float]:
    weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    return [
        float(sum(weight[o, k] * h[k] for k in range(len(h))) + bias[o]) for o in range(len(bias))
    ]


def lstm(weights: Weights, name: str, x: list[float], h: Array, cell: Array) -> tuple:
    weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    inputs, size = [*x, *h], len(h)
    gates = [sum(inputs[k] * weight[k, o] for k in range(len(inputs))) for o in range(4 * size)]
    gates = [gate + bias[o] for o, gate in enumerate(gates)]
    new_h, new_cell = np.zeros(size), np.zeros(size)
    for d in range(size):
        enter, forget = sigmoid(gates[d]), sigmoid(gates[size + d])
        candidate, leave = np.tanh(gates[2 * size + d]), sigmoid(gates[3 * size + d])
        new_cell[d] = forget * cell[d] + enter * candidate
        new_h[d] = leave * np.tanh(new_cell[d])
    return new_h, new_cell


def product(x: list[float], weight: Array, bias: Array) -> Array:
    return np.array(
        [sum(x[k] * weight[k, o] for k in range(len(x))) + bias[o] for o in range(len(bias))]
    )


def gru(weights: Weights, name: str, x: list[float], h: Array) -> tuple:
    names = ("gates", "gate_bias", "from_x", "x_bias", "from_h", "h_bias")
    gates, gate_bias, from_x, x_bias, from_h, h_bias = (weights[f"{name}.{n}"] for n in names)
    both = [sigmoid(v) for v in product([*x, *h], gates, gate_bias)]
    reset, update = np.array(both[: len(h)]), np.array(both[len(h) :])
    candidate = np.tanh(product(x, from_x, x_bias) + reset * product(list(h), from_h, h_bias))
    return ((1 - update) * candidate + update * h,)


def rnn(weights: Weights, name: str, x: list[float], h: Array) -> tuple:
    return (np.tanh(product([*x, *h], weights[f"{name}.weight"], weights[f"{name}.bias"])),)


def first(weights: Weights, name: str) -> tuple:
    """h_0, and for an LSTM its memory."""
    names = (f"{name}.first_h", f"{name}.first_cell")
    return tuple(weights[n] for n in names if n in weights)


def step(weights: Weights, name: str, x: list[float], state: tuple) -> tuple:
    """The cell that the weights belong to."""
    if f"{name}.gates" in weights:
        return gru(weights, name, x, *state)
    return (lstm if len(state) == 2 else rnn)(weights, name, x, *state)


def centre(i: int, g: float, delta: float, n: int) -> float:
    return g + (i - n / 2 - 0.5) * delta  # (19), (20)


def filters(g: float, delta: float, variance: float, n: int, size: int) -> Array:
    """F[i, a], with i and a from 1 in row and column i − 1 and a − 1."""
    result = np.zeros((n, size))
    for i in range(1, n + 1):
        mu = centre(i, g, delta, n)
        row = [exp(-((a - mu) ** 2) / (2 * variance)) for a in range(1, size + 1)]
        for a in range(1, size + 1):
            result[i - 1, a - 1] = row[a - 1] / sum(row)  # (25), (26)
    return result


def window(raw: list[float], n: int, height: int, width: int) -> dict[str, float]:
    gx, gy, log_variance, log_delta, log_gamma = raw  # (21)
    return {
        "g_x": (width + 1) / 2 * (gx + 1),  # (22)
        "g_y": (height + 1) / 2 * (gy + 1),  # (23)
        "delta": (max(height, width) - 1) / (n - 1) * exp(log_delta),  # (24)
        "variance": exp(log_variance),
        "gamma": exp(log_gamma),
    }


def banks(values: dict[str, float], n: int, height: int, width: int) -> tuple[Array, Array]:
    delta, variance = values["delta"], values["variance"]
    return (
        filters(values["g_y"], delta, variance, n, height),
        filters(values["g_x"], delta, variance, n, width),
    )


def read(values: dict[str, float], n: int, images: Array) -> Array:
    """(K, H, W) → (K, N, N): γ Σ_b Σ_a F_Y[i, b] image[b, a] F_X[j, a]; (27)."""
    count, height, width = images.shape
    f_y, f_x = banks(values, n, height, width)
    result = np.zeros((count, n, n))
    for k, i, j in np.ndindex(count, n, n):
        for b, a in np.ndindex(height, width):
            result[k, i, j] += values["gamma"] * f_y[i, b] * images[k, b, a] * f_x[j, a]
    return result


def write(values: dict[str, float], n: int, patch: Array, height: int, width: int) -> Array:
    """(C, N, N) → (C, H, W): 1/γ Σ_i Σ_j F_Y[i, b] w[i, j] F_X[j, a]; (29)."""
    f_y, f_x = banks(values, n, height, width)
    result = np.zeros((len(patch), height, width))
    for c, b, a in np.ndindex(result.shape):
        for i, j in np.ndindex(n, n):
            result[c, b, a] += f_y[i, b] * patch[c, i, j] * f_x[j, a] / values["gamma"]
    return result


def decode(
    weights: Weights, z: list[float], decoder: tuple, canvas: Array, write_n: int | None
) -> tuple[tuple, Array, list[float] | None]:
    """One step of the decoder → its state, the canvas (logits), and the window as a picture."""
    channels, height, width = canvas.shape
    decoder = step(weights, "decoder", z, decoder)  # (7), (14)
    patch = np.array(linear(weights, "patch", decoder[0]))
    if write_n is None:
        return decoder, canvas + patch.reshape(canvas.shape), None  # (18)
    values = window(linear(weights, "writer.layer", decoder[0]), write_n, height, width)
    square = patch.reshape(channels, write_n, write_n)
    canvas = canvas + write(values, write_n, square, height, width)  # (8), (15)
    return decoder, canvas, picture(values, write_n)


def imagine(weights: Weights, latents: Array, write_n: int | None) -> tuple[list[Array], list]:
    """Latents (T, Z) → σ(c_t) and the write window of each step; (13) to (16)."""
    canvas = weights["first_canvas"].copy()
    decoder = first(weights, "decoder")
    canvases, windows = [], []
    for z in latents:
        decoder, canvas, seen = decode(weights, list(z), decoder, canvas, write_n)
        canvases.append(np.vectorize(sigmoid)(canvas))
        windows.append(seen)
    return canvases, windows


def draw(
    weights: Weights,
    x: Array,
    noise: Array,
    read_n: int | None,
    write_n: int | None,
    sees: str = "both",
    privy: bool = True,
) -> tuple[float, list[float], list[Array]]:
    """One image (C, H, W) and noise (T, Z) → loss (nats), KL of each step, σ(c_t) of each step."""
    _, height, width = x.shape
    canvas = weights["first_canvas"].copy()
    encoder = first(weights, "encoder")
    decoder = first(weights, "decoder")
    squash = np.vectorize(sigmoid)
    kls: list[float] = []
    canvases: list[Array] = []
    for epsilon in noise:
        error = x - squash(canvas)  # (3)
        images = {"both": np.concatenate([x, error]), "image": x, "error": error}[sees]
        if read_n is not None:
            values = window(linear(weights, "reader.layer", decoder[0]), read_n, height, width)
            images = read(values, read_n, images)
        told = [*images.ravel(), *decoder[0]] if privy else list(images.ravel())
        encoder = step(weights, "encoder", told, encoder)  # (5)
        posterior = linear(weights, "posterior", encoder[0])
        size = len(posterior) // 2
        mu, sigma = posterior[:size], [exp(value) for value in posterior[size:]]  # (1), (2)
        z = [mu[k] + sigma[k] * epsilon[k] for k in range(size)]
        kls.append(
            sum(0.5 * (mu[k] ** 2 + sigma[k] ** 2 - log(sigma[k] ** 2) - 1) for k in range(size))
        )
        decoder, canvas, _ = decode(weights, z, decoder, canvas, write_n)
        canvases.append(squash(canvas))
    mean = canvases[-1]
    if "log_sigma" in weights:
        sigma = exp(float(weights["log_sigma"]))
        density = [-0.5 * ((x[at] - mean[at]) / sigma) ** 2 for at in np.ndindex(x.shape)]
        nll = -sum(value - log(sigma * sqrt(2 * pi)) for value in density)
    else:
        nll = -sum(
            x[at] * log(mean[at]) + (1 - x[at]) * log(1 - mean[at]) for at in np.ndindex(x.shape)
        )
    return float(nll) + sum(kls), kls, canvases


def picture(values: dict[str, float], n: int) -> list[float]:
    """Centre x, centre y, side and σ, counted from 0 as pictures are."""
    return [
        values["g_x"] - 1,
        values["g_y"] - 1,
        (n - 1) * values["delta"],
        sqrt(values["variance"]),
    ]
