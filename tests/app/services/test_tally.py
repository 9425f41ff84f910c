"""Counting, and telling what was counted once."""

from chainrule.app.services.tally import ENDED, EPOCHS, FLUSH, STEPS, WAIT, Flush, Tally, bucket


def test_a_duration_falls_in_the_first_bucket_whose_bound_it_is_not_over() -> None:
    assert [bucket(WAIT, seconds) for seconds in (0.0, 0.01, 0.011, 5, 1e6)] == ["0.01", "0.01", "0.05", "5", "+Inf"]


def test_what_was_taken_is_counted_anew_and_what_is_given_back_is_not_lost() -> None:
    tally = Tally()
    tally.flushed(Flush(0, 0.03, 12, 3, ("succeeded",)))
    taken = tally.take()
    assert taken == {
        (FLUSH, "0.05"): 1, (FLUSH, "sum"): 0.03, (STEPS, ""): 12, (EPOCHS, ""): 3, (ENDED, "succeeded"): 1,
    }  # fmt: skip
    assert tally.take() == {}
    tally.count(STEPS, 1)
    tally.give_back(taken)
    assert tally.take()[STEPS, ""] == 13
