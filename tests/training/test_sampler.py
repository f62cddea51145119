"""Which samples a step sees."""

from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.training.sampler import Batches, batch_at, derived_seed, sample_at

sizes = st.integers(1, 6)


@settings(max_examples=40, deadline=None)
@given(count=st.integers(1, 13), size=sizes, parts=sizes, world=st.integers(1, 3), first=st.integers(0, 5))
def test_an_epoch_is_every_sample_once_however_it_is_cut(count, size, parts, world, first):
    steps = 3 * count  # enough for whole epochs
    ranks = [
        Batches(first, first + steps, size=size, accumulate=parts, count=count, seed=3, rank=r, world=world)
        for r in range(world)
    ]
    rows = [[key for batch in batches for key in batch] for batches in ranks]
    share = size * parts
    stream = [key for s in range(steps) for row in rows for key in row[s * share : (s + 1) * share]]
    begin = first * share * world
    assert stream == [sample_at(begin + i, count=count, seed=3) for i in range(len(stream))]
    for epoch in range(-(-begin // count), (begin + len(stream)) // count):
        assert sorted(index for e, index in stream if e == epoch) == list(range(count))


def test_two_processes_see_the_samples_of_one_with_twice_the_batch():
    one = Batches(0, 20, size=6, accumulate=1, count=11, seed=0)
    two = [Batches(0, 20, size=3, accumulate=1, count=11, seed=0, rank=r, world=2) for r in (0, 1)]
    assert list(one) == [a + b for a, b in zip(*two)]


def test_halving_the_batch_keeps_the_samples_of_a_step():
    arguments = {"share": 8, "count": 50, "seed": 1, "rank": 1, "world": 2}
    whole = batch_at(5, 0, size=8, **arguments)
    halves = batch_at(5, 0, size=4, **arguments) + batch_at(5, 1, size=4, **arguments)
    assert whole == halves


def test_epochs_and_seeds_have_their_own_order():
    orders = {
        tuple(sample_at(p, count=20, seed=s)[1] for p in range(e * 20, e * 20 + 20)) for s in (0, 1) for e in (0, 1)
    }
    assert len(orders) == 4


def test_derived_seeds_are_the_same_on_every_machine_and_depend_on_every_number():
    assert derived_seed(0, 1) == 2024819301478721300
    assert len({derived_seed(a, b) for a in range(30) for b in range(30)}) == 900
    assert derived_seed(1, 23) != derived_seed(12, 3)
    assert 0 <= derived_seed(-5) < 2**63
