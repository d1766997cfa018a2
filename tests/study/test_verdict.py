"""The verdict in words: as kind as the numbers, fair to every baseline, and about accuracies alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from test_report import cells, study

from fasthebb.evaluation.results import summarise
from fasthebb.study.short import cut_short
from fasthebb.study.verdict import contests, headline, hebbian, marks, reads_features, shown


def test_headline_names_the_gap_its_interval_and_where_it_turns() -> None:
    records = study()
    assert headline(records, shown(summarise(records))) == (
        "At 10 labels hpca + probe (depth 1) reaches 75.0 ± 2.5 %, 9.2 points above training from scratch "
        "(scratch: 65.8 ± 1.9 %). Paired over 3 seeds the difference is +9.2 ± 0.7 points. Budget by budget, the best "
        "Hebbian method is clearly above training from scratch at 10 labels; clearly below it at 500."
    )


def test_headline_is_honest_when_hebbian_is_not_above() -> None:
    below = cells("hpca", "HPCA", {10: (50.0, 52.0)}) + cells("scratch", "", {10: (55.0, 51.0)})
    said = headline(below, shown(summarise(below)))
    assert said.startswith(
        "At 10 labels no Hebbian method beats training from scratch: the best of them, hpca, reaches"
    )
    assert "2.0 points below (scratch: 53.0 ± 25.4 %)." in said
    assert said.endswith("the difference is −2.0 ± 38.1 points, an interval that includes zero.")
    twice = below + [replace(record, labels=50) for record in below]
    assert headline(twice, summarise(twice)).endswith(
        "At every budget the best Hebbian method is not distinguishable from training from scratch."
    )
    level = cells("hpca", "HPCA", {10: (50.0,)}) + cells("scratch", "", {10: (50.0,)})
    said = headline(level, shown(summarise(level)))
    assert "level with it (scratch: 50.0 %). Fewer than two seeds measured both" in said


def test_seeds_that_agree_to_the_last_image_are_not_sure() -> None:
    records = cells("hpca", "HPCA", {10: (62.5, 75.0)}) + cells("scratch", "", {10: (50.0, 62.5)})
    said = headline(records, shown(summarise(records)))
    assert "12.5 points above training from scratch" in said
    assert said.endswith("+12.5 ± 0.0 points in each of them: the test images are too few to say how sure that is.")
    ours, theirs = ([k / 3.6 for k in right] for right in ((351, 350, 353), (349, 348, 351)))
    thirds = cells("hpca", "HPCA", {10: tuple(ours)}) + cells("scratch", "", {10: tuple(theirs)})
    for some in (records, thirds):
        assert contests(some, summarise(some))[0].outcome == "above {} (no interval)"
        assert "tie" not in marks(some, summarise(some)).values()


def test_headline_of_seeds_that_do_not_meet() -> None:
    records = cells("hpca", "HPCA", {10: (60.0,), 50: (70.0,)})
    records += [replace(record, seed=7) for record in cells("scratch", "", {10: (50.0,), 50: (75.0,)})]
    said = headline(records, summarise(records))
    assert "10.0 points above training from scratch (scratch: 50.0 %). Fewer than two seeds" in said
    assert said.endswith("above training from scratch (no interval) at 10 labels; below it (no interval) at 50.")


def test_headline_without_scratch_and_without_numbers() -> None:
    random = cells("hpca", "HPCA", {10: (70.0, 71.0)}) + cells("random features", "HPCA", {10: (60.0, 61.5)})
    assert "9.8 points above the best method without a Hebbian rule (random features" in headline(
        random, summarise(random)
    )
    alone = cells("hpca", "HPCA", {10: (70.0,)})
    assert headline(alone, summarise(alone)).startswith("At 10 labels hpca leads with 70.0 %")
    assert headline([], []) == "No accuracy was measured yet."


def test_one_seed_leads_only_where_none_has_more() -> None:
    several = cells("hpca", "HPCA", {10: (60.0, 61.0)}) + cells("scratch", "", {10: (50.0, 51.5)})
    records = several + cells("hpca student", "HPCA", {10: (64.0,), 50: (70.0,)}) + cells("scratch", "", {50: (60.0,)})
    first, second = contests(records, summarise(records))
    assert (first.ours.method, second.ours.method) == ("hpca", "hpca student")
    assert "hpca reaches 60.5" in headline(records, summarise(records))


def test_the_headline_names_what_beats_both_sides() -> None:
    records = study() + cells("VAE probe", "", {10: (90.0, 91.0, 92.0)})
    said = headline(records, shown(summarise(records)))
    assert "(scratch: 65.8 ± 1.9 %)" in said
    assert "The best of all there is VAE probe with 91.0 ± 2.5 %." in said


def test_one_probe_depth_for_all_budgets_and_ties_by_pairs() -> None:
    records = study()
    rows = shown(summarise(records))
    assert [(row.method, row.depth) for row in rows if row.labels == 10] == [
        ("hpca", None),
        ("hpca", 1),
        ("random features", 1),
        ("scratch", None),
        ("scratch (backprop twin)", None),
    ]
    found = marks(records, rows)
    scratch, twin = ("scratch", "", None), ("scratch (backprop twin)", "", None)
    assert {found[scratch, 500], found[twin, 500]} == {"best", "tie"}
    assert found[("hpca", "HPCA", 1), 10] == "best"
    assert (scratch, 10) not in found
    assert next(fight.theirs.method for fight in contests(records, rows)) == "scratch"


def test_baselines_are_not_hebbian_and_an_svm_reads_features() -> None:
    names = ("VAE fine-tuned", "VAE probe", "PCA patches probe", "k-means patches SVM", "random kNN")
    rows = summarise([record for name in names for record in cells(name, "", {10: (1.0,)})])
    assert not any(hebbian(row) for row in rows)
    assert [reads_features(row) for row in rows] == [False, True, True, True, True]


def test_two_seeds_do_not_lead_where_others_have_three() -> None:
    three = cells("hpca", "HPCA", {10: (60.0, 61.0, 62.0)}) + cells("scratch", "", {10: (50.0, 51.5, 52.0)})
    records = three + cells("hpca student", "HPCA", {10: (64.0, 69.0)})
    (fight,) = contests(records, shown(summarise(records)))
    assert (fight.ours.method, fight.outcome) == ("hpca", "clearly above {}")


def test_a_net_cut_at_the_best_depth_of_the_test_images_stands_for_nobody() -> None:
    whole = cells("HPCA fine-tuned", "HPCA", {10: (50.0, 51.0, 52.5)})
    cut = [replace(record, depth=2, top1=record.top1 + 20) for record in whole if record.top1 is not None]
    scratch = cells("scratch (hebbian twin)", "", {10: (60.0, 61.0, 62.0)})
    rows = shown(summarise([*whole, *cut, *scratch]))
    assert [row.name for row in rows] == ["HPCA fine-tuned", "scratch (hebbian twin)"]
    (contest,) = contests([*whole, *cut, *scratch], rows)
    assert contest.outcome.startswith("clearly below")
    assert [row.name for row in summarise(cut)] == ["HPCA fine-tuned (depth 2)"]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"finetune_steps": 300}, ""),
        ({"finetune_steps": 299}, "cut short (299 steps at 10 and 500 labels): fewer than 300 are too few"),
        ({"own": {"scratch": {"finetune_steps": 1}}}, "cut short (1 step at 10 and 500 labels)"),
        ({"finetune_steps": 5, "own": {"scratch": {"finetune_steps": 900}}}, ""),
        ({"finetune_epochs": 50, "batch_size": 64}, "cut short (50 steps at 10 labels)"),
        (
            {"finetune_epochs": 50, "finetune_batch_size": 256},
            "cut short (50 steps at 10 labels; 100 steps at 500 labels)",
        ),
        ({"methods": ["hpca"], "finetune_steps": 5}, ""),
    ],
)
def test_training_from_scratch_that_was_cut_short(config: dict[str, Any], said: str) -> None:
    records = study()
    found = cut_short({"methods": ["hpca", "scratch"], **config}, records)
    assert said in found
    assert bool(said) == bool(found)
    alone = [record for record in records if "scratch" not in record.method]
    assert cut_short({"methods": ["hpca"], "finetune_steps": 5}, alone) == ""


def test_of_several_from_scratch_the_one_that_is_compared_with_counts() -> None:
    longer = cells("scratch longer FixMatch", "", {10: (90.0, 91.0, 92.0), 500: (90.0, 91.0, 92.0)})
    own = {"longer": {"is": "scratch", "title": "scratch longer", "finetune_steps": 100, "fixmatch_steps": 50}}
    config = {"methods": ["scratch", "longer"], "own": own, "finetune_steps": 20}
    said = cut_short(config, [*study(), *longer])
    assert "(150 steps at 10 labels; 20 steps at 500 labels)" in said


def test_where_scratch_sees_images_without_labels_the_headline_also_says_what_labels_alone_give() -> None:
    longer = cells("scratch longer FixMatch", "", {10: (70.0, 71.0, 72.0), 500: (90.0, 91.0, 92.0)})
    records = [*study(), *longer]
    said = headline(records, shown(summarise(records)))
    assert "points above training from scratch (scratch longer FixMatch: 71.0" in said
    assert "On the labels alone, without FixMatch, training from scratch reaches 65.8 ± 1.9 % (scratch)." in said
    alone = [*(r for r in study() if "scratch" not in r.method), *longer]
    assert "On the labels alone" not in headline(alone, shown(summarise(alone)))
