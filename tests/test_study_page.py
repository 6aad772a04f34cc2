"""Pages of studies in a real browser. All trials are made: tests/made_study.py says how."""

import csv
import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from pipeline.errors import DataError, JobError
from pipeline.prepare import prepare
from pipeline.report import TEMPLATES
from pipeline.study_page import (
    MOST_BYTES,
    charts_library,
    study_page,
    write_comparison,
    write_study_page,
)
from pipeline.study_stats import shown
from pipeline.study_view import StudyView
from tests import browser as browsers
from tests.browser import complaints, look_like, wait
from tests.made_study import SPACE, made_view, picture, stored

NAN = float("nan")
WICKED = "</script><script>window.hit = 1</script><img src=x onerror='window.hit = 1'>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("browser")


@pytest.fixture(scope="module")
def browser(folder: Path) -> Iterator[Chrome]:
    with browsers.started(folder) as running:
        yield running


@pytest.fixture(scope="module")
def large() -> StudyView:
    return made_view(1000)


@pytest.fixture(scope="module")
def page(large: StudyView, folder: Path) -> str:
    """Address of the page of 1,000 trials with at most 13 reports each."""
    pictures = {t.number: {"glimpses.gif": picture("gif", 9)} for t in large.ranked()[:3]}
    return written(replace(large, pictures=pictures), folder / "large.html")


def written(view: StudyView, path: Path) -> str:
    path.write_text(study_page([view], charts_library()), encoding="utf-8")
    return path.as_uri()


def show(browser: Chrome, address: str, **look: Any) -> None:
    """Loads the page anew in a window that looks like this."""
    look_like(browser, **look)
    browser.get("about:blank")
    complaints(browser)
    browser.get(address)


def script(browser: Chrome, text: str) -> Any:
    return browser.execute_script(f"return {text}")


def scroll_through(browser: Chrome) -> None:
    """Comes past every chart, and waits until all are drawn."""
    for chart in browser.find_elements(By.CSS_SELECTOR, "main .chart"):
        browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", chart)
        wait(lambda chart=chart: chart.find_elements(By.CSS_SELECTOR, "canvas, p"))
    wait(lambda: script(browser, "waiting.size") == 0)


def column(browser: Chrome, name: str) -> list[str]:
    cells = f'#trials tbody [data-label="{name}"]'
    return script(browser, f"[...document.querySelectorAll('{cells}')].map(c => c.textContent)")


def text(browser: Chrome, selector: str) -> str:
    return browser.find_element(By.CSS_SELECTOR, selector).text


def search(browser: Chrome, words: str) -> str:
    """Types into the search; what the table then says of its length."""
    field = browser.find_element(By.ID, "search")
    field.clear()
    field.send_keys(words)
    return text(browser, "#page-note")


def test_a_thousand_trials_open_with_no_complaint_no_request_and_every_chart(browser, page):
    show(browser, page, height=2400)
    wait(lambda: script(browser, "performance.getEntriesByName('chart').length"))
    marks = script(
        browser, "performance.getEntriesByType('mark').map(m => `${m.name} ${m.startTime | 0} ms`)"
    )
    print("1,000 trials, since the start of loading:", ", ".join(marks))
    scroll_through(browser)
    charts = browser.find_elements(By.CSS_SELECTOR, "main .chart canvas")
    assert len(charts) == 4 + len(SPACE)
    assert not browser.find_element(By.ID, "trouble").is_displayed()
    assert script(browser, "performance.getEntriesByType('resource').length") == 0
    assert complaints(browser) == []


def test_the_head_says_how_far_it_is_and_what_was_found(browser, page):
    show(browser, page)
    assert "1,000 of 1,000 trials settled" in text(browser, ".state")
    sentences = [one.text for one in browser.find_elements(By.CSS_SELECTOR, ".sentences li")]
    assert len(sentences) == 3
    assert "glimpses T = 12 with read window N = 12" in sentences[0]
    assert sentences[1].startswith("Going from 2 to 12 in glimpses T lowers the error by")


def test_the_map_shows_the_same_cells_as_the_statistics(browser, page, large):
    show(browser, page)
    for place in (0, 1, 3):
        Select(browser.find_element(By.ID, "place")).select_by_index(place)
        one, other = large.axes[:2]
        for (a, b), cell in large.map(one, other, large.amounts[place]).items():
            found = browser.find_element(
                By.CSS_SELECTOR, f"#map tbody tr:nth-child({a + 1}) td:nth-child({b + 2})"
            )
            assert f"#trial-{cell.best}" in found.get_attribute("innerHTML")
            assert f"{100 * cell.value:.2f} %" in found.text
            assert f"{cell.count} of " in found.text
    Select(browser.find_element(By.ID, "map-one")).select_by_visible_text("learning rate")
    rows = browser.find_elements(By.CSS_SELECTOR, "#map tbody tr")
    assert [row.find_element(By.TAG_NAME, "th").text for row in rows] == list(large.axes[2].names)


def test_a_header_sorts_both_ways_and_leaves_what_is_missing_last(browser, page, large):
    show(browser, page)
    numbers = [float(v.rstrip(" %")) for v in column(browser, "error")]
    assert numbers == sorted(numbers), "the best come first"
    header = '#trials button[data-column="model.hidden"]'
    for direction in ("ascending", "descending"):
        browser.find_element(By.CSS_SELECTOR, header).click()
        found = [int(v) for v in column(browser, "hidden units")]
        assert found == sorted(found, reverse=direction == "descending")
        head = browser.find_element(By.CSS_SELECTOR, f"th:has({header.split()[-1]})")
        assert head.get_attribute("aria-sort") == direction
    browser.find_element(By.CSS_SELECTOR, '#trials button[data-column="test"]').click()
    shown_first = column(browser, "test")
    done = sum(t.test is not None for t in large.trials)
    assert [value != "–" for value in shown_first] == [True] * done + [False] * (50 - done)


def test_a_search_finds_words_and_compares_numbers(browser, page, large):
    show(browser, page)
    wanted = [t for t in large.trials if t.values["model.steps"] == 8
              and t.values["train.lr"] < 3e-4]  # fmt: skip
    assert f"of {len(wanted)} trials" in search(browser, "steps=8 lr<0.0003")
    assert set(column(browser, "glimpses T")) == {"8"}
    both = sum(t.values["model.sees"] == "both" and t.status == "finished" for t in large.trials)
    assert f"of {both} trials" in search(browser, "sees=both finished")
    assert "No trial fits" in search(browser, "nothing-like-this")
    assert "1–50 of 1,000 trials" in search(browser, " ")


def test_failed_trials_are_there_with_their_reason(browser, page, large):
    show(browser, page)
    Select(browser.find_element(By.ID, "status")).select_by_value("failed")
    failed = [str(t.number) for t in large.trials if t.status == "failed"]
    assert sorted(column(browser, "trial")) == sorted(failed)
    assert all(
        reason.startswith("loss was not finite") for reason in column(browser, "reason, run")
    )


def test_pages_of_the_table_hold_fifty_rows(browser, page):
    show(browser, page)
    seen = set(column(browser, "trial"))
    browser.find_element(By.ID, "later").click()
    assert "51–100 of 1,000" in text(browser, "#page-note")
    seen |= set(column(browser, "trial"))
    assert len(seen) == 100


def test_the_keyboard_alone_chooses_a_trial_and_comes_back(browser, page):
    show(browser, page)
    first, second, third = column(browser, "trial")[:3]
    browser.find_element(By.CSS_SELECTOR, "#trials tbody a").send_keys(Keys.ARROW_DOWN)
    active = browser.switch_to.active_element
    assert active.text == second
    active.send_keys(Keys.ENTER)
    assert wait(lambda: text(browser, "#trial-title")) == f"Trial {second}"
    assert script(browser, "location.hash") == f"#trial-{second}"
    wait(lambda: browser.find_elements(By.CSS_SELECTOR, "#trial-chart canvas"))
    browser.find_element(By.ID, "trial-after").send_keys(Keys.ENTER)
    wait(lambda: text(browser, "#trial-title") == f"Trial {third}")
    browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    wait(lambda: not script(browser, "document.getElementById('trial').open"))
    assert browser.switch_to.active_element.text == third
    assert script(browser, "location.hash") == ""
    assert first != second
    assert complaints(browser) == []


def test_an_address_leads_to_a_trial_with_its_pictures_and_clock(browser, page, large):
    best = large.ranked()[0]
    show(browser, f"{page}#trial-{best.number}")
    body = wait(lambda: text(browser, "#trial-body"))
    for expected in ("finished", "Glimpses, animated.", "until its first step\n4.5 s",
                     shown(best.values["model.hidden"]), best.run):  # fmt: skip
        assert expected in body
    wait(lambda: browser.find_elements(By.CSS_SELECTOR, "#trial-chart canvas"))
    images = browser.find_elements(By.CSS_SELECTOR, "#trial-body img")
    assert all(browser.execute_script("return arguments[0].naturalWidth", i) for i in images)
    assert len(images) == 1
    assert complaints(browser) == []


def test_who_wants_less_motion_is_asked_before_an_animation_plays(browser, page, large):
    show(browser, f"{page}#trial-{large.ranked()[0].number}", still=True)
    wait(lambda: browser.find_elements(By.CSS_SELECTOR, "#trial-body summary"))
    assert not browser.find_element(By.CSS_SELECTOR, "#trial-body img").is_displayed()


def test_exports_hold_what_the_search_leaves_with_all_digits(browser, page, large, folder):
    show(browser, page)
    search(browser, "finished steps=12")
    downloads = folder / "downloads"
    for kind in ("csv", "json"):
        browser.find_element(By.ID, f"export-{kind}").click()
    wait(lambda: len([p for p in downloads.glob("*.*") if p.suffix in (".csv", ".json")]) == 2)
    wanted = {t.number: t for t in large.trials
              if t.status == "finished" and t.values["model.steps"] == 12}  # fmt: skip
    with (downloads / f"{large.id}.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    entries = json.loads((downloads / f"{large.id}.json").read_text(encoding="utf-8"))
    assert {int(row["trial"]) for row in rows} == {e["trial"] for e in entries} == set(wanted)
    for row, entry in zip(rows, entries, strict=True):
        trial = wanted[entry["trial"]]
        assert float(row["train.lr"]) == entry["train.lr"] == trial.values["train.lr"]
        assert len(entry["curve"]) == len(trial.reports)
        assert entry["test"] == trial.test


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [400, 800, 1600])
def test_nothing_is_wider_than_the_window(browser, page, width, dark):
    show(browser, page, width=width, dark=dark)
    scroll_through(browser)
    assert script(browser, "document.documentElement.scrollWidth") <= width
    assert complaints(browser) == []


def test_light_and_dark_change_page_and_charts_while_it_is_open(browser, page):
    show(browser, page)
    scroll_through(browser)
    light = script(browser, "getComputedStyle(document.body).backgroundColor")
    cell = script(browser, "document.querySelector('td.best').style.backgroundColor")
    look_like(browser, dark=True)
    wait(lambda: script(browser, "document.querySelector('td.best').style.backgroundColor") != cell)
    assert script(browser, "getComputedStyle(document.body).backgroundColor") != light
    scroll_through(browser)
    assert complaints(browser) == []
    look_like(browser)


def test_a_wicked_name_is_text(browser, folder):
    view = made_view(30, space={**SPACE, "model.sees": {"choice": [WICKED, "both"]}})
    failed = replace(view.trials[3], status="failed", reason=WICKED)
    trials = [*view.trials[:3], failed, *view.trials[4:]]
    show(browser, written(replace(view, trials=trials), folder / "wicked.html") + "#trial-3")
    wait(lambda: WICKED in text(browser, "#trial-body"))
    browser.find_element(By.ID, "trial-close").click()
    scroll_through(browser)
    search(browser, "window.hit")
    assert WICKED in column(browser, "reason, run")
    assert script(browser, "window.hit") is None
    assert complaints(browser) == []


def test_what_is_no_number_is_a_dash_and_hides_no_trial(browser, folder):
    view = made_view(12)
    odd = view.trials[5]
    reports = [replace(r, value=v, stderr=NAN, terms={"loss": NAN})
               for r, v in zip(odd.reports * 3, (None, NAN, math.inf), strict=False)]  # fmt: skip
    odd = replace(odd, reports=reports, test=NAN, flops_an_example=NAN, parameters=None)
    empty = replace(view.trials[6], reports=[], status="waiting", values={})
    trials = [*view.trials[:5], odd, empty, *view.trials[7:]]
    show(browser, written(replace(view, trials=trials), folder / "nan.html"))
    scroll_through(browser)
    assert len(column(browser, "trial")) == 12
    for number in ("5", "6"):
        found = browser.find_element(By.CSS_SELECTOR, f'tr[data-trial="{number}"] td.value')
        assert found.text == "–"
        browser.execute_script(f"location.hash = 'trial-{number}'")
        wait(lambda n=number: text(browser, "#trial-title") == f"Trial {n}")
    assert complaints(browser) == []


@pytest.mark.parametrize("count", [0, 1])
def test_a_study_that_has_hardly_begun_has_a_page(browser, folder, count):
    show(browser, written(made_view(count), folder / f"begun-{count}.html"))
    scroll_through(browser)
    assert len(column(browser, "trial")) == count
    assert complaints(browser) == []


def test_a_study_page_is_gathered_from_storage(browser, folder):
    view = made_view(24)
    storage = stored(view, folder / "store")
    prepare(view.job.data, storage)
    key = write_study_page(storage, view.id)
    assert key == f"studies/{view.id}/index.html"
    best = next(trial for trial in view.ranked() if trial.number in view.pages)
    show(browser, (folder / "store" / key).as_uri() + f"#trial-{best.number}")
    wait(lambda: len(browser.find_elements(By.CSS_SELECTOR, "#trial-body img")) == 2)
    link = browser.find_element(By.CSS_SELECTOR, "#trial-body a[href*=runs]").get_attribute("href")
    assert Path(link.removeprefix("file://")).exists()
    assert script(browser, "DATA.places.slice(1)") == [
        "rung 1: 600 examples", "rung 2: 1,800 examples", "rung 3: 5,400 examples",
        "full length: 16,200 examples",
    ]  # fmt: skip
    linked = script(browser, "TRIALS.filter(t => t.page).map(t => t.number)")
    assert set(linked) == view.pages
    assert complaints(browser) == []


def test_pictures_stay_within_their_share_of_the_page(folder):
    view = made_view(24)
    storage = stored(view, folder / "heavy")
    for trial in view.trials:
        storage.write(f"runs/{trial.run}/pictures/samples.png", b"\x89PNG" + bytes(700_000))
    html = storage.read(write_study_page(storage, view.id)).decode()
    data = json.loads(html.split('id="data">')[1].split("</script>")[0])
    sizes = [len(p["data"]) * 3 / 4 for found in data["pictures"][0].values() for p in found]
    assert MOST_BYTES - 700_000 < sum(sizes) < 1.01 * MOST_BYTES


def test_two_studies_stand_side_by_side(browser, folder):
    space = {"model.steps": {"choice": [8, 16]}, "train.lr": {"uniform": [0.001, 0.01]}}
    one, other = made_view(40), made_view(40, "other", space=space)
    storage = stored(one, folder / "two")
    stored(other, folder / "two")
    key = write_comparison(storage, [one.id, other.id])
    show(browser, (folder / "two" / key).as_uri())
    scroll_through(browser)
    assert len(browser.find_elements(By.CSS_SELECTOR, "#map table")) == 2
    assert "The best of" in text(browser, "main > .headline")
    assert set(column(browser, "study")) == {"made", "other"}
    browser.execute_script("location.hash = 'trial-b-7'")
    wait(lambda: text(browser, "#trial-title") == "Trial 7 of other")
    assert complaints(browser) == []


def test_studies_that_are_judged_differently_are_not_compared(folder):
    storage = stored(made_view(2), folder / "unlike")
    stored(made_view(2, "loss", metric="loss"), folder / "unlike")
    with pytest.raises(JobError, match="not judged alike"):
        write_comparison(storage, ["made-0123456789", "loss-0123456789"])
    with pytest.raises(DataError, match="no such study"):
        write_study_page(storage, "another")


def test_scripts_of_the_page_stay_short_and_reach_for_nothing():
    for path in sorted(TEMPLATES.glob("study_*.js")):
        lines = path.read_text(encoding="utf-8").splitlines()
        assert len(lines) <= 260, path
        begun = 0
        for place, line in enumerate(lines):
            begun = place if re.match(r"(async )?function ", line) else begun
            assert line != "}" or place - begun < 60, f"{path}:{begun + 1}"
        for banned in ("innerHTML", "eval(", "new Function", "fetch(", "http://"):
            assert not [line for line in lines if banned in line], path
