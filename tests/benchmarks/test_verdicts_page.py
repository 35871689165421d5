"""The table of verdicts on the page of the evaluation is that of the record, whose figures hold what must hold."""

from benchmarks import records
from benchmarks.evaluation import verdicts


def test_the_page_has_the_record_and_the_record_holds():
    found = records.read("evaluation", "verdicts")
    assert found["margin"] == verdicts.MARGIN
    page = verdicts.PAGE.read_text("utf-8")
    assert page.partition(verdicts.MARKS[0])[2].partition(verdicts.MARKS[1])[0].strip() == verdicts.table(found)
    assert found["equal"]["passed"] >= 0.95 and found["equal, no other anchor"]["passed"] >= 0.95
    assert found["worse by twice the margin, the rows asked for"]["passed"] <= 0.05
    assert found["in a row"]["beyond"] == 0 and found["in a row, beside the live one alone"]["beyond"] > 0
    covered = [share for name, row in found.items() if "coverage" in name for share in row["covered"].values()]
    assert len(covered) == 15 and all(0.93 <= share <= 0.97 for share in covered)
