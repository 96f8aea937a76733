import pytest

from training.defaults import MOST_EPOCHS, default_arguments, default_epochs


@pytest.mark.parametrize(
    ("parameters", "rate"), [(4_400_000, 3e-4), (22_700_000, 3e-4), (110_000_000, 5e-5), (335_000_000, 2e-5)]
)
def test_larger_models_learn_more_slowly(parameters, rate):
    assert default_arguments(parameters=parameters, rows=10_000, labels=3)["learning_rate"] == rate


def test_few_rows_for_each_label_mean_more_epochs():
    assert default_epochs(9_000, 77) > default_epochs(5_000, 6) >= default_epochs(10_000, 3) >= 2


@pytest.mark.parametrize(("rows", "labels"), [(2, 2), (10, 10), (100, 150)])
def test_the_smallest_data_set_ends(rows, labels):
    assert default_epochs(rows, labels) == MOST_EPOCHS


def test_a_small_data_set_gets_small_batches():
    sizes = [
        default_arguments(parameters=1, rows=rows, labels=2)["per_device_train_batch_size"]
        for rows in (100, 1_000, 10_000)
    ]
    assert sizes == sorted(set(sizes))
