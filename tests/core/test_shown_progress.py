"""Progress of single calls: whole stages, once, and silence outside of a `with` block."""

from __future__ import annotations

import pytest
import torch

import sigma_ser as ss
from sigma_ser.core.progress import shown_on, stage
from sigma_ser.testing.examples import example_batch, example_victim


class Recorded:
    """The stages and the number of their finished steps."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, int]] = []
        self.done: list[int] = []

    def stage(self, name: str, total: int, cached: int = 0) -> None:
        self.stages.append((name, total))
        self.done.append(cached)

    def advance(self, steps: int = 1) -> None:
        self.done[-1] += steps

    def note(self, text: str) -> None:
        raise AssertionError(text)


def test_a_stage_is_complete_and_hides_those_inside_of_it() -> None:
    shown = Recorded()
    with shown_on(shown):
        with stage("outer", 5) as advance:
            advance(2)
            with stage("inner", 3) as inside:
                inside(3)
            advance(9)  # more than the total
        with stage("ended early", 4) as advance:
            advance(1)
    assert shown.stages == [("outer", 5), ("ended early", 4)]
    assert shown.done == [5, 4]


def test_a_stage_with_an_error_is_not_complete() -> None:
    def broken() -> None:
        with stage("work", 3) as advance:
            advance(1)
            raise ValueError("broken")

    shown = Recorded()
    with shown_on(shown), pytest.raises(ValueError, match="broken"):
        broken()
    assert shown.done == [1]


@pytest.mark.parametrize("attack", ["oneshot", "sigma-autoattack"])
def test_an_attack_counts_the_utterances_that_it_searches(attack: str) -> None:
    victim = example_victim()
    batch = example_batch(victim)
    labels = victim(batch.x, batch.lengths).argmax(1)
    labels[0] = (labels[0] + 1) % 3  # misclassified from the start
    settings = {"max_passes": 20} if attack == "sigma-autoattack" else {}
    shown = Recorded()
    with shown_on(shown):
        ss.attack(attack, victim, batch, labels, ss.Budget(sparsity=0.05, epsilon=1.0), **settings)
    assert (shown.stages, shown.done) == ([(attack, len(batch) - 1)], [len(batch) - 1])


def test_lines_are_printed_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    victim = example_victim()
    batch = example_batch(victim)
    labels = victim(batch.x, batch.lengths).argmax(1)
    budget = ss.Budget(sparsity=0.1)
    with ss.show_progress():
        ss.attack("oneshot", victim, batch, labels, budget)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("oneshot: 6\noneshot: done in")
    ss.attack("oneshot", victim, batch, labels, budget)
    assert capsys.readouterr().err == ""


def test_notebooks_show_tables_with_escaped_text() -> None:
    victim = example_victim()
    batch = example_batch(victim)
    labels = victim(batch.x, batch.lengths).argmax(1)
    result = ss.attack("random", victim, batch, labels, ss.Budget(sparsity=0.1))
    assert "<th>utterances</th><td>6</td>" in result._repr_html_()
    assert "AttackResult(utterances: 6, attacked" in repr(result)
    assert "<th>frames</th><td>4 to 9</td>" in batch._repr_html_()
    named = ss.wrap(torch.nn.Linear(2, 2).eval(), class_names=["<script>", "b"])
    assert "&lt;script&gt;, b" in named._repr_html_()
    assert "<script>" not in named._repr_html_()
