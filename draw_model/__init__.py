"""Which models there are, and how a name or a plain dict becomes one."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from draw_model.contract import Batch, Model, Pictures, Terms
from draw_model.draw import Draw, DrawConfig

ModelConfig = DrawConfig
"""The ``model:`` section of a job file."""

MODELS: dict[str, tuple[type[DrawConfig], type[Draw]]] = {
    "draw": (DrawConfig, Draw),
}
"""Kind → its config and its class."""


def build(config: ModelConfig, shape: tuple[int, int, int]) -> Model:
    """A new model for images of ``shape`` (C, H, W); torch's generator draws its weights."""
    return MODELS[config.kind][1](config, shape)


def from_plain(plain: Mapping[str, Any]) -> Model:
    """The model that ``model.json`` describes: ``kind``, ``shape`` and the fields of its config.

    Its weights are new; load them from ``weights.safetensors`` with ``load_state_dict``. Raises
    ValueError, in one line, for a kind, a field or a shape that is no model's.
    """
    kind, shape = plain.get("kind"), plain.get("shape")
    if kind not in MODELS:
        raise ValueError(f"kind is {kind!r}; write one of {', '.join(MODELS)}")
    if not (isinstance(shape, list | tuple) and len(shape) == 3):
        raise ValueError(f"shape is {shape!r}; write [channels, height, width]")
    config_class, _ = MODELS[kind]
    values = {name: value for name, value in plain.items() if name != "shape"}
    known = {field.name for field in fields(config_class)}
    if unknown := sorted(values.keys() - known):
        raise ValueError(f"{unknown[0]} is no field of kind {kind}; those are {sorted(known)}")
    return build(config_class(**values), (shape[0], shape[1], shape[2]))


__all__ = [
    "MODELS",
    "Batch",
    "Draw",
    "DrawConfig",
    "Model",
    "ModelConfig",
    "Pictures",
    "Terms",
    "build",
    "from_plain",
]
