"""The results page in a real browser, with the table that this project ships."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome

from pipeline.results import read_table, write_results
from pipeline.storage import open_storage
from tests.browser import complaints, look_like, started

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    folder = tmp_path_factory.mktemp("results")
    write_results(open_storage(f"file://{folder}/store"), [read_table(ROOT / "RESULTS.json")])
    with started(folder) as running:
        running.get(f"file://{folder}/store/results.html")
        yield running


@pytest.mark.parametrize("width", [400, 1000, 1400])
def test_no_cell_lies_outside_the_window(browser, width):
    look_like(browser, width=width)
    cells = "[...document.querySelectorAll('table.items td')]"
    ends = f"return Math.max(...{cells}.map(cell => cell.getBoundingClientRect().right))"
    assert 0 < browser.execute_script(ends) <= width
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert complaints(browser) == []


def test_where_columns_have_no_room_each_cell_says_which_it_is(browser):
    label = "return getComputedStyle(document.querySelector('td.ours'), '::before').content"
    look_like(browser, width=1000)
    assert browser.execute_script(label) == '"ours: "'
    look_like(browser, width=1400)
    assert browser.execute_script(label) == "none"
