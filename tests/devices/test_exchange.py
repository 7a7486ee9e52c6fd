"""What an open round takes for an answer, and what for one that a broker delivers once more."""

from lola.adapters import BlockTask
from lola.adapters.wire import DIGESTED
from lola.devices.exchange import Exchange, OpenRound

EARLIER, FIRST, SECOND, THIRD = (bytes([byte]) * (DIGESTED + 1) for byte in b"efst")


def open_round():
    task = BlockTask(version=2, device=0, depths=1, bandwidth_hz=1e6)
    return OpenRound(2, b"", [Exchange("ann", task)], 0.0, 10.0, {"ann": EARLIER[:DIGESTED]}, {"ann": 1})


def test_an_answer_that_comes_again_is_no_other():
    this = open_round()
    assert this.take("ann", EARLIER, 1.0) == ""
    assert not this.answered
    assert this.take("ann", FIRST, 2.0) is None
    assert [this.take("ann", payload, 3.0) for payload in (FIRST, EARLIER)] == ["", ""]
    assert len(this.exchanges["ann"].arrivals) == len(this.arrived) == 1
    assert this.exchanges["ann"].answered_s == 2.0


def test_a_second_answer_is_kept_to_be_told_and_a_third_is_not():
    this = open_round()
    assert [this.take("ann", payload, 1.0) for payload in (FIRST, SECOND)] == [None, None]
    assert this.take("ann", THIRD, 2.0) == "it answers again and again; the rest is ignored"
    assert this.take("bob", FIRST, 2.0) == "an answer is ignored, for it was not asked"
    assert [payload for _, payload in this.arrived] == [FIRST, SECOND]


def test_an_empty_answer_is_one_that_is_refused_when_it_is_read():
    assert open_round().take("ann", b"", 1.0) is None


def test_an_answer_that_an_earlier_round_has_not_waited_for_takes_nobodys_place():
    this = open_round()
    (exchange,) = this.exchanges.values()
    assert [this.take("ann", payload, now) for payload, now in ((SECOND, 1.0), (FIRST, 2.0))] == [None, None]
    assert not this.late(exchange, FIRST, 2)
    assert not this.late(exchange, SECOND, 0)  # of a version that it was not asked for: refused, as ever
    assert this.late(exchange, SECOND, 1)
    assert (this.answered, exchange.answered_s) == (True, 2.0)
    assert not this.late(exchange, FIRST, 1)  # once


def test_who_has_answered_too_late_alone_is_awaited():
    this = open_round()
    (exchange,) = this.exchanges.values()
    this.take("ann", SECOND, 1.0)
    assert this.late(exchange, SECOND, 1)
    assert not this.answered
    assert this.take("ann", FIRST, 2.0) is None
    assert this.answered
