"""Attack time against prediction time: what must hold whatever the network."""

import pytest
import torch
from networks import random_images, small_network

from ep_hw.data import Split
from ep_hw.evaluation.temporal import measure_times, temporal_table, worst_over_times
from ep_hw.report.figures.temporal import temporal_figure
from simulators.reference import ReferenceMachine


@pytest.fixture(scope="module")
def measured():
    machine = ReferenceMachine(small_network(3, gain=3.0).lower())
    images = random_images(24)
    labels = machine.relax(images).prediction
    split = Split("random", images, labels, torch.arange(24))
    return machine, split, list(measure_times(machine, split, 0.3, (10, 3), (40, 5, 200), 5, 0))


def test_clean_images_are_right_where_the_labels_were_made(measured):
    *_, points = measured
    assert points[0].attack_time == 0
    assert points[0].correct[:, points[0].steps.index(200)].all()
    assert [point.attack_time for point in points] == [0, 3, 10]


def test_attacks_hurt_and_the_worst_is_no_better_than_any(measured):
    _, _, points = measured
    for n, worst in enumerate(worst_over_times(points)):
        each = [point.correct[:, n].float().mean().item() for point in points[1:]]
        assert worst <= min(each)
        assert min(each) < points[0].correct[:, n].float().mean().item()


def test_every_point_is_the_machine_asked_at_that_step(measured):
    machine, split, points = measured
    for n, steps in enumerate(points[0].steps):
        right = machine.relax(split.images, steps).prediction == split.labels
        assert torch.equal(points[0].correct[:, n], right)


def test_table_and_figure_hold_every_number(measured):
    *_, points = measured
    table = temporal_table(points)
    assert len(table.rows) == 4
    assert table.rows[-1][1:] == tuple(f"{a:.3f}" for a in worst_over_times(points))
    left = temporal_figure(points).axes[0]
    assert {text.get_text() for text in left.texts} == {f"{100 * row['accuracy']:.0f}" for p in points[1:]
                                                       for row in p.rows()}
