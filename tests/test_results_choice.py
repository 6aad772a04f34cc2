"""Which of several runs answers a row of the results table."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.results import Answer, Item, Row, Table, joined


@given(st.permutations([
    Answer(job="j", found="", run="worse, seen little", seen=1, score=0.04, by="error"),
    Answer(job="j", found="", run="none", seen=9),
    Answer(job="j", found="", run="loss", seen=8, score=0.01, by="loss, x"),
    Answer(job="j", found="", run="older", seen=2, score=0.03, by="error", finished="1"),
    Answer(job="j", found="", run="newer", seen=2, score=0.03, by="error", finished="2"),
    Answer(job="j", found=""),
]))  # fmt: skip
def test_which_run_answers_does_not_hang_on_their_order(answers):
    table = Table(answers={"1": tuple(answers[1:])})
    row = Row(item=Item(id="1", what="x", jobs=("j",)), answers=(answers[0],))
    assert joined([row], [table])[0].answers[0].run == "newer"
