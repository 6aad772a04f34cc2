"""The character network: its derivative by hand against torch's, and the text it writes."""

from dataclasses import replace
from math import log

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from draw_model import Batch, CharRnn, CharRnnConfig, build, from_plain
from draw_model.char_rnn import ALPHABET, NextCharacter, continue_text, pick

VERSE = "To be, or not to be: that is the question.\n"


def text(*lines: str) -> Batch:
    x = torch.tensor([[ALPHABET.index(character) for character in line] for line in lines])
    mask = torch.ones(len(x), dtype=torch.bool)
    return Batch(x=x, y=torch.zeros(len(x), dtype=torch.long), mask=mask, noise={})


def moved(length: int, hidden: int = 5) -> CharRnn:
    """A double precision model whose units are far from the middle of tanh."""
    torch.manual_seed(0)
    model = CharRnn(CharRnnConfig(hidden=hidden), (length + 1,)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.7 * torch.randn_like(parameter))
    return model


def weights(model: CharRnn) -> tuple[torch.Tensor, ...]:
    return model.from_x, model.from_h, model.bias, model.to_y, model.y_bias


@pytest.fixture(scope="module")
def learned() -> CharRnn:
    """A model that has learned the verse by heart."""
    torch.manual_seed(0)
    model = CharRnn(CharRnnConfig(hidden=64, init=0.1), (len(VERSE) + 1,))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    batch = text("\n" + VERSE)
    for _ in range(250):
        optimizer.zero_grad()
        model(batch)["loss"].sum().backward()
        optimizer.step()
    return model


def test_the_alphabet_is_a_newline_and_printable_ascii() -> None:
    assert len(ALPHABET) == 96
    assert ALPHABET[0] == "\n"
    assert [ALPHABET.index(c) for c in " ~"] == [1, 95]
    assert all(c == "\n" or (c.isascii() and c.isprintable()) for c in ALPHABET)


def test_the_gradient_by_hand_is_the_slope_of_the_cost() -> None:
    model, x = moved(length=3, hidden=2), text("abba", "To b").x

    def costs(*parts: torch.Tensor) -> torch.Tensor:
        return NextCharacter.apply(x[:, :-1], x[:, 1:], *parts)[0]

    assert torch.autograd.gradcheck(costs, weights(model), atol=1e-7, rtol=1e-5)


def test_cost_and_gradient_are_those_of_the_network_that_torch_differentiates() -> None:
    model, batch = moved(length=12), text(VERSE[:13], VERSE[5:18], VERSE[20:33])
    rnn = nn.RNN(96, 5, batch_first=True).double()
    out = nn.Linear(5, 96).double()
    with torch.no_grad():
        for theirs, ours in (
            (rnn.weight_ih_l0, model.from_x.T), (rnn.weight_hh_l0, model.from_h.T),
            (rnn.bias_ih_l0, model.bias), (rnn.bias_hh_l0, torch.zeros(5)),
            (out.weight, model.to_y.T), (out.bias, model.y_bias),
        ):  # fmt: skip
            theirs.copy_(ours)
    logits = out(rnn(F.one_hot(batch.x[:, :-1], 96).double())[0])  # (B, L, V)
    expected = F.cross_entropy(logits.transpose(1, 2), batch.x[:, 1:], reduction="none")
    terms = model(batch)
    torch.testing.assert_close(terms["loss"], expected.sum(1), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(terms["nats_per_character"], expected.mean(1), rtol=1e-12, atol=0)
    right = (logits.argmax(2) == batch.x[:, 1:]).double().mean(1)
    torch.testing.assert_close(terms["correct"], right)
    share = torch.tensor([0.2, 1.0, -3.0], dtype=torch.float64)  # what comes from above differs
    (terms["loss"] * share).sum().backward()
    (expected.sum(1) * share).sum().backward()
    for theirs, ours in (
        (rnn.weight_ih_l0.grad.T, model.from_x), (rnn.weight_hh_l0.grad.T, model.from_h),
        (rnn.bias_ih_l0.grad, model.bias), (out.weight.grad.T, model.to_y),
        (out.bias.grad, model.y_bias),
    ):  # fmt: skip
        torch.testing.assert_close(ours.grad, theirs, rtol=1e-11, atol=1e-11)


def test_examples_of_a_batch_do_not_see_each_other() -> None:
    model, lines = moved(length=12), (VERSE[:13], VERSE[5:18])
    together = model(text(*lines))["loss"]
    alone = torch.cat([model(text(line))["loss"] for line in lines])
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=0)


def test_a_character_is_guessed_from_those_before_it_only() -> None:
    model = moved(length=12)
    x = text(VERSE[:13], VERSE[:9] + "XXXX").x
    costs, _ = NextCharacter.apply(x[:, :-1], x[:, 1:], *weights(model))
    assert torch.equal(costs[0, :8], costs[1, :8])
    assert (costs[0, 8:] != costs[1, 8:]).all()


def test_an_untrained_model_costs_as_much_as_a_uniform_guess() -> None:
    model = build(CharRnnConfig(), (51,))
    measure = model.measure()
    assert (measure.likelihood, measure.dimensions) == ("characters", 50)
    assert measure.chance == pytest.approx(50 * log(96))
    loss = model(model.fake_batch(8))["loss"].mean().item()
    assert loss == pytest.approx(measure.chance, rel=1e-3)


def test_the_cost_is_float32_in_an_autocast_region_too() -> None:
    model, batch = CharRnn(CharRnnConfig(hidden=8, init=0.5), (13,)), text(VERSE[:13])
    plain = model(batch)["loss"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(batch)["loss"]
    assert torch.equal(loss, plain)


def test_training_learns_a_verse_and_writes_it_down(learned: CharRnn) -> None:
    terms = learned(text("\n" + VERSE))
    assert terms["nats_per_character"].item() < 0.1
    assert terms["correct"].item() == 1
    assert continue_text(learned, "\nTo be, ", 30, 0.4, seed=1) == "or not to be: that is the ques"


def test_text_from_noise_is_a_function_of_the_seed_and_in_the_alphabet() -> None:
    model = CharRnn(CharRnnConfig(hidden=8), (201,))
    codes = model.sample(40, seed=3)["codes"]
    assert codes.shape == (40, 200)
    assert codes.dtype == torch.int64
    assert set(codes.flatten().tolist()) == set(range(96)), "untrained, it writes all of them"
    assert torch.equal(codes[:2], model.sample(2, seed=3)["codes"])
    assert not torch.equal(codes, model.sample(40, seed=4)["codes"])


def test_text_from_noise_is_what_was_learned(learned: CharRnn) -> None:
    codes = learned.sample(5, seed=3)["codes"]
    assert ["".join(ALPHABET[i] for i in row) for row in codes.tolist()].count(VERSE) >= 4


def test_characters_are_drawn_with_the_probabilities_of_their_temperature() -> None:
    torch.manual_seed(0)
    count, logits = 40_000, torch.tensor([1.0, 0.0, -torch.inf, 2.0])
    for temperature in (0.4, 1.0, 1.4):
        drawn = pick(logits.expand(count, -1), torch.randn(count), temperature)
        found = drawn.bincount(minlength=4) / count
        expected = (logits / temperature).softmax(0)
        torch.testing.assert_close(found, expected, rtol=0, atol=4 * 0.5 / count**0.5)


def test_the_rarest_noise_still_draws_a_character_that_can_be() -> None:
    logits = torch.tensor([[-torch.inf, 0.0, 0.0, -torch.inf]]).expand(2, -1)
    assert pick(logits, torch.tensor([-50.0, 50.0])).tolist() == [1, 2]


def test_low_temperature_repeats_itself_and_high_strays(learned: CharRnn) -> None:
    def distinct(temperature: float) -> int:
        written = continue_text(learned, "\n", 300, temperature, seed=0)
        return len({written[i : i + 3] for i in range(298)})

    cold, warm, hot = (distinct(temperature) for temperature in (0.4, 1.4, 5.0))
    assert cold <= warm < hot


def test_continued_text_follows_the_seed_and_has_the_length_asked_for(learned: CharRnn) -> None:
    one = continue_text(learned, "be", 40, 3.0, seed=1)
    assert len(one) == 40
    assert one == continue_text(learned, "be", 40, 3.0, seed=1)
    assert one != continue_text(learned, "be", 40, 3.0, seed=2)
    assert continue_text(learned, "be", 0, 1.0, seed=1) == ""


@pytest.mark.parametrize(
    ("primer", "temperature", "said"),
    [("", 1.0, "primer is empty"), ("né", 1.0, "primer has 'é'"), ("a", 0.0, "temperature is 0.0")],
)
def test_a_text_cannot_go_on_from_nothing(primer: str, temperature: float, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        continue_text(CharRnn(CharRnnConfig(hidden=2), (3,)), primer, 5, temperature, seed=0)


@pytest.mark.parametrize("wrong", [96, 101, -1])
def test_what_is_no_place_in_the_alphabet_is_refused(wrong: int) -> None:
    batch = text("abc")
    with pytest.raises(ValueError, match="reads places in its alphabet, 0 to 95"):
        CharRnn(CharRnnConfig(hidden=2), (3,))(replace(batch, x=torch.full((1, 3), wrong)))


@pytest.mark.parametrize("shape", [(1, 28, 28), (1,)])
def test_a_shape_that_is_no_text_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="char_rnn reads text"):
        build(CharRnnConfig(), shape)


def test_impossible_values_are_refused() -> None:
    with pytest.raises(ValueError, match="hidden is 0"):
        CharRnnConfig(hidden=0)
    with pytest.raises(ValueError, match="init is -1"):
        CharRnnConfig(init=-1.0)


def test_a_model_comes_back_from_its_description() -> None:
    model = from_plain({"kind": "char_rnn", "hidden": 100, "init": 0.1, "shape": [21]})
    assert model.shape == (21,)
    assert {name: tuple(p.shape) for name, p in model.named_parameters()} == {
        "from_x": (96, 100), "from_h": (100, 100), "bias": (100,),
        "to_y": (100, 96), "y_bias": (96,),
    }  # fmt: skip
