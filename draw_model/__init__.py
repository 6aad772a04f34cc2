"""Which models there are, and how a name or a plain dict becomes one."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from draw_model.char_rnn import CharRnn, CharRnnConfig
from draw_model.classifier import Classifier, ClassifierConfig
from draw_model.cnn import Cnn, CnnConfig
from draw_model.contract import Batch, Measure, Model, Pictures, Shape, Terms
from draw_model.conv_draw import ConvDraw, ConvDrawConfig
from draw_model.dcgan import Dcgan, DcganConfig
from draw_model.draw import Draw, DrawConfig
from draw_model.ram import Ram, RamConfig
from draw_model.vae import Vae, VaeConfig

ModelConfig = (
    DrawConfig
    | VaeConfig
    | DcganConfig
    | ClassifierConfig
    | RamConfig
    | CnnConfig
    | ConvDrawConfig
    | CharRnnConfig
)
"""The ``model:`` section of a job file."""

MODELS: dict[str, tuple[type[Any], type[Model]]] = {
    "draw": (DrawConfig, Draw),
    "vae": (VaeConfig, Vae),
    "dcgan": (DcganConfig, Dcgan),
    "char_rnn": (CharRnnConfig, CharRnn),
    "classifier": (ClassifierConfig, Classifier),
    "ram": (RamConfig, Ram),
    "cnn": (CnnConfig, Cnn),
    "conv_draw": (ConvDrawConfig, ConvDraw),
}
"""Kind → its config and its class."""


def build(config: ModelConfig, shape: Shape, classes: int = 1) -> Model:
    """A new model for examples of ``shape``; torch's generator draws its weights.

    Raises ValueError, in one line, for a shape that this kind of model cannot have.
    """
    make: Any = MODELS[config.kind][1]
    if len(shape) != make.AXES:
        reads = {1: "texts (length)", 3: "pictures (channels, height, width)"}[make.AXES]
        raise ValueError(f"kind {config.kind} reads {reads}, the examples are {shape}")
    return make(config, shape, classes)


def from_plain(plain: Mapping[str, Any]) -> Model:
    """The model that ``model.json`` describes: kind, shape, classes, the fields of its config.

    Its weights are new; load them from ``weights.safetensors`` with ``load_state_dict``. Raises
    ValueError, in one line, for a kind, a field or a shape that is no model's.
    """
    kind, shape, classes = plain.get("kind"), plain.get("shape"), plain.get("classes", 1)
    if kind not in MODELS:
        raise ValueError(f"kind is {kind!r}; write one of {', '.join(MODELS)}")
    sides = shape if isinstance(shape, list | tuple) else ()
    if len(sides) not in (1, 3) or not all(type(side) is int and side > 0 for side in sides):
        raise ValueError(f"shape is {shape!r}; write [channels, height, width], or [length]")
    config_class, _ = MODELS[kind]
    values = {name: value for name, value in plain.items() if name not in ("shape", "classes")}
    known = {field.name for field in fields(config_class)}
    if unknown := sorted(values.keys() - known):
        raise ValueError(f"{unknown[0]} is no field of kind {kind}; those are {sorted(known)}")
    return build(config_class(**values), tuple(sides), classes)


__all__ = [
    "MODELS",
    "Batch",
    "CharRnn",
    "CharRnnConfig",
    "Classifier",
    "ClassifierConfig",
    "Cnn",
    "CnnConfig",
    "ConvDraw",
    "ConvDrawConfig",
    "Dcgan",
    "DcganConfig",
    "Draw",
    "DrawConfig",
    "Measure",
    "Model",
    "ModelConfig",
    "Pictures",
    "Ram",
    "RamConfig",
    "Shape",
    "Terms",
    "Vae",
    "VaeConfig",
    "build",
    "from_plain",
]
