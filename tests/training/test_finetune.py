"""Fine-tuning: what it changes, its schedule, and accuracies."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import HEAD, equal, loader, net, timeless
from torch import Tensor, nn
from torch.nn import functional as F

from fasthebb import HPCA, Prototypes, SoftWTA, Taught, attach
from fasthebb.evaluation import predictions, topk_accuracy
from fasthebb.training.finetune import accuracies, accuracy, finetune, schedule


def fresh() -> nn.Sequential:
    torch.manual_seed(0)
    return net()


def changed(before: dict[str, Tensor], model: nn.Module) -> set[str]:
    return {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}


def test_end_to_end_learns_everywhere() -> None:
    model = fresh()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    history = finetune(model, loader(), epochs=20, lr=0.05)
    assert changed(before, model) == set(before)
    assert history[-1]["loss"] < history[0]["loss"]
    assert accuracy(model, loader()) > 80


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_head_only_leaves_everything_else(weight_decay: float) -> None:
    model = fresh()
    model[0].weight.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    finetune(model, loader(), epochs=2, lr=0.05, head_only=True, weight_decay=weight_decay)
    assert changed(before, model) == {f"{HEAD}.weight", f"{HEAD}.bias"}
    others = {name: p for name, p in model.named_parameters() if not name.startswith(HEAD)}
    assert all(p.grad is None for p in others.values()), "nothing is computed for them either"
    assert [name for name, p in others.items() if not p.requires_grad] == ["0.weight"], "as it was"


def test_another_head() -> None:
    model = fresh()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    finetune(model, loader(), epochs=1, lr=0.05, head_only=True, head="4")
    assert changed(before, model) == {"4.weight"}
    with pytest.raises(ValueError, match=r"no layer 'fc' to be its head; it has 0, .*8"):
        finetune(model, loader(), epochs=1, lr=0.05, head="fc")


def test_the_head_first_then_all() -> None:
    """As many steps as an epoch has: as if the head were trained alone for an epoch, but for the optimiser's memory."""
    model, alone = fresh(), fresh()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first = finetune(model, loader(), epochs=2, lr=0.05, max_steps=5, head_steps=5, weight_decay=0.1)
    assert changed(before, model) == {f"{HEAD}.weight", f"{HEAD}.bias"}
    assert timeless(first) == timeless(finetune(alone, loader(), epochs=1, lr=0.05, head_only=True, weight_decay=0.1))
    assert equal(model.state_dict(), alone.state_dict())
    assert all(p.requires_grad for p in model.parameters()), "as it was"
    model = fresh()
    finetune(model, loader(), epochs=2, lr=0.05, max_steps=6, head_steps=5)
    assert changed(before, model) == set(before)
    assert int(model[2].num_batches_tracked) == 1, "in the other steps its statistics stood"


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_hidden_layers_at_a_rate_of_their_own(weight_decay: float) -> None:
    """One step of plain SGD moves them by their rate times the gradient."""
    after = {}
    for rate in (0.0, 0.1, 1.0):
        torch.manual_seed(1)  # of the dropout
        model = fresh()
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        finetune(model, loader(5), epochs=1, lr=0.05, hidden_rate=rate, momentum=0.0, weight_decay=weight_decay)
        after[rate] = {name: p.detach() - before[name] for name, p in model.named_parameters()}
    for name, whole in after[1.0].items():
        factors = (1.0, 1.0) if name.startswith(HEAD) else (0.0, 0.1)
        for rate, factor in zip((0.0, 0.1), factors):
            torch.testing.assert_close(after[rate][name], factor * whole, rtol=1e-3, atol=1e-7)
        assert whole.any()


def test_rates_of_hidden_layers_fall_with_the_heads() -> None:
    """Of two parts, the second at rate 1 is the plain run."""
    runs = []
    for rate in (1.0, 1.0 + 1e-12):
        torch.manual_seed(1)
        model = fresh()
        history = finetune(model, loader(), epochs=3, lr=0.05, hidden_rate=rate, weight_decay=0.01)
        runs.append((model.state_dict(), history))
    for name, value in runs[0][0].items():
        torch.testing.assert_close(value, runs[1][0][name])
    assert [r["lr"] for r in runs[0][1]] == [r["lr"] for r in runs[1][1]]


def test_shares_of_the_classes_as_labels() -> None:
    runs = []
    for soft in (False, True):
        torch.manual_seed(1)
        model = fresh()
        batches = [(x, F.one_hot(y, 3).float() if soft else y) for x, y in loader(shuffle=False)]
        history = finetune(model, batches, epochs=1, lr=0.05)
        runs.append((model.state_dict(), history))
    for name, value in runs[0][0].items():
        torch.testing.assert_close(value, runs[1][0][name])
    assert runs[0][1][0]["accuracy"] == runs[1][1][0]["accuracy"]


@pytest.mark.filterwarnings("ignore:No rule trains a bias")
def test_parts_that_make_no_sense() -> None:
    alone = {"hidden_rate": -1.0, "head_only": True}
    for wrong in ({"head_steps": -1}, {"hidden_rate": -0.5}, {"hidden_rate": float("nan")}, alone):
        with pytest.raises(ValueError, match=r"(head_steps|hidden_rate)=.*: give a number of 0 or more"):
            finetune(fresh(), loader(), epochs=1, lr=0.05, **wrong)  # type: ignore[arg-type]
    model = fresh()
    with pytest.raises(ValueError, match="head_steps=3: rules listen from the first step on; leave head_steps or hebb"):
        finetune(model, loader(), epochs=1, lr=0.05, head_steps=3, hebb=attach(model, RULES))


@pytest.mark.parametrize("head_only", [False, True])
def test_validation_changes_nothing_but_the_curves(head_only: bool) -> None:
    runs = []
    for validation in (None, loader(9, shuffle=False)):
        model = fresh()
        history = finetune(model, loader(), epochs=3, lr=0.05, head_only=head_only, validation=validation)
        runs.append((model.state_dict(), [(r["loss"], r["accuracy"]) for r in history]))
        assert ["val_accuracy" in r for r in history] == [validation is not None] * 3
    assert equal(*runs)


RULES = {HEAD: Prototypes(), "0": Taught(SoftWTA(0.1), 3), "4": HPCA("tanh")}


@pytest.mark.filterwarnings("ignore:No rule trains a bias")
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_rules_of_no_weight_change_nothing(weight_decay: float) -> None:
    runs = []
    for rules in (None, RULES):
        torch.manual_seed(1)  # of the dropout
        model = fresh()
        hebb = None if rules is None else attach(model, rules)
        history = finetune(model, loader(), epochs=3, lr=0.05, weight_decay=weight_decay, hebb=hebb, local=0.0)
        runs.append((model.state_dict(), timeless(history)))
    assert equal(*runs)


@pytest.mark.filterwarnings("ignore:No rule trains a bias")
def test_rules_add_their_update_to_the_gradient() -> None:
    """One step of plain SGD: what rules add to it is lr·local·ΔW of the batch and its labels."""
    after = {}
    for local in (0.0, 0.5):
        torch.manual_seed(1)
        model = fresh()
        hebb = attach(model, RULES)
        finetune(model, loader(5), epochs=1, lr=0.05, momentum=0.0, hebb=hebb, local=local)
        assert hebb.signal is None, "labels are of one batch"
        hebb.detach()
        after[local] = dict(model.named_parameters())
    torch.manual_seed(1)
    model = fresh()
    hebb = attach(model, RULES)
    x, hebb.signal = next(iter(loader(5)))
    model(x)
    hebb.write_grad()
    for name, p in model.named_parameters():
        added = torch.zeros_like(p) if p.grad is None else -0.05 * 0.5 * p.grad
        assert torch.allclose(after[0.5][name] - after[0.0][name], added, rtol=1e-4, atol=1e-7), name
        assert bool(added.any()) == (name in {"0.weight", "4.weight", "8.weight"})


def test_a_weight_needs_rules() -> None:
    with pytest.raises(ValueError, match=r"local=0.5: there are no rules to weigh; give the handle"):
        finetune(fresh(), loader(), epochs=1, lr=0.05, local=0.5)


@given(st.integers(1, 30))
def test_schedule_of_twenty_parts_is_the_published(part: int) -> None:
    factors = [schedule(step, 20 * part) for step in range(20 * part)]
    halvings = [step for step in range(1, 20 * part) if factors[step] != factors[step - 1]]
    assert halvings == [part * k for k in range(10, 20)]
    assert all(factors[step] == factors[step - 1] / 2 for step in halvings)
    assert factors[0] == 1


@given(st.integers(1, 500))
def test_schedule_of_any_length_falls(total: int) -> None:
    factors = [schedule(step, total) for step in range(total)]
    assert factors == sorted(factors, reverse=True)
    assert factors[0] == 1
    assert min(factors) >= 2**-10


def test_rates_of_the_history() -> None:
    history = finetune(fresh(), loader(), epochs=20, lr=0.5)
    assert [r["lr"] for r in history] == [0.5] * 10 + [0.5 * 2.0**-k for k in range(1, 11)]


class Scores(nn.Module):
    """Scores of images that are their own scores."""

    def __init__(self) -> None:
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return x


def test_accuracies_count_ranks() -> None:
    rank = torch.tensor([0, 1, 2, 0, 1])  # how many scores are above the label's
    x = torch.tensor([[3.0, 2.0, 1.0]]).repeat(5, 1)
    parts = [(x[:2], rank[:2]), (x[2:], rank[2:])]
    assert accuracies(Scores(), parts, (1, 2, 3, 5)) == [40.0, 80.0, 100.0, 100.0]
    assert accuracy(Scores(), parts, 2) == 80.0


def test_accuracies_of_ties_are_those_of_evaluate() -> None:
    """Few values and many classes, so that most places are decided by a tie."""
    torch.manual_seed(0)
    x, labels = torch.randint(0, 3, (200, 40)).float(), torch.randint(0, 40, (200,))
    parts = [(x[:70], labels[:70]), (x[70:], labels[70:])]
    ks = (1, 5, 20, 60)
    assert accuracies(Scores(), parts, ks) == [topk_accuracy(*predictions(Scores(), parts), k) for k in ks]
    assert accuracies(Scores(), [(torch.zeros(4, 3), torch.tensor([0, 0, 1, 2]))], (1, 2, 3)) == [50.0, 75.0, 100.0]


def test_accuracies_refuse() -> None:
    with pytest.raises(ValueError, match="no images"):
        accuracies(Scores(), [], (1,))
    with pytest.raises(FloatingPointError, match="not finite"):
        accuracies(Scores(), [(torch.tensor([[float("nan"), 0.0]]), torch.tensor([0]))], (1,))
    with pytest.raises(ValueError, match=r"1 of 3 labels are negative \(unlabelled\)"):
        accuracies(Scores(), [(torch.zeros(2, 2), torch.tensor([0, -1])), (torch.zeros(1, 2), torch.tensor([1]))], (1,))


def test_a_rate_that_diverges_names_a_layer() -> None:
    with pytest.raises(FloatingPointError, match=r"step \d+, from layer '\d' on: lower the learning rate 1e\+30"):
        finetune(fresh(), loader(), epochs=5, lr=1e30)


@pytest.mark.parametrize("wrong", [3, -1])
def test_labels_that_the_model_has_no_class_for(wrong: int) -> None:
    batches = [(torch.randn(4, 3, 12, 12), torch.tensor([0, 1, 2, wrong]))]
    with pytest.raises(ValueError, match=f"Labels from {min(0, wrong)} to {max(2, wrong)} for a model of 3 classes"):
        finetune(fresh(), batches, epochs=1, lr=0.1)
    with pytest.raises(ValueError, match="Labels from -1 to -1 for a model of 3 classes"):
        finetune(fresh(), [x for x, _ in batches], epochs=1, lr=0.1)
