"""examples/space in headless Chromium, clicked through as a visitor would. Not part of `pytest`; run it with

    pip install selenium && pytest tests/browser        # chromium and chromedriver are on the PATH

Set SCREENSHOTS to a folder to keep what was seen.
"""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
import torch
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from nt_failures.data.tokenizer import word_level_tokenizer
from nt_failures.evaluation.predictor import ModelPredictor
from nt_failures.models.load import load_model
from nt_failures.objectives import NextToken
from nt_failures.tasks.path_star import PathStar

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "space"))

import app

WINDOW = (1366, 768)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
LINE = "32,3|16,12|3,19|32,34|32,7|34,6|6,16|19,47|7,8|8,9|9,10|47,28/32,12="
EVIL = "<script>window.harm = 1</script><img src=x onerror='window.harm = 1'>${window.harm = 1}{{window.harm = 1}}"


class Hans(ModelPredictor):
    """Goes down the arm of the source's first edge, looks up every other node, and copies the goal at the end.

    The probabilities are planted: the text of its likeliest token is markup.
    """

    def forced(self, columns, answers):
        return self._write(columns, answers, self.task.path_length)

    def free(self, columns):
        return self._write(columns, columns["path"], 0)

    def continued(self, columns, answers, symbols):
        return self._write(columns, answers, symbols, keep=True)

    def candidates(self, columns, answers, top=5):
        return [[[(EVIL, 0.6), ("34", 0.3), ("3", 0.1), ("19", 0.0)] for _ in row] for row in answers]

    def _write(self, columns, answers, shown, keep=False):
        """Node after node; the first `shown` of `answers` stand before the later ones, and in the result if kept."""
        edges = [tuple(edge) for edge in columns["edges"][0].tolist()]
        child = {a: b for a, b in reversed(edges)}  # of the source: its first edge
        found = [int(columns["source"][0])]
        for k in range(1, self.task.path_length):
            before = int(answers[0][k - 1]) if k - 1 < shown else found[k - 1]
            found.append(int(answers[0][k]) if keep and k < shown else child.get(before, -1))
        found[-1] = int(columns["goal"][0])
        return torch.tensor([found]).numpy()


@pytest.fixture(scope="module")
def address():
    task = PathStar(degree=3, path_length=5, num_nodes=50)
    tokenizer = word_level_tokenizer(task)
    torch.manual_seed(0)
    model = load_model("gpt2-1x16", tokenizer, 64).eval()
    blocks = app.build(app.Demo(EVIL, Hans(model, tokenizer, NextToken.from_tokenizer(tokenizer), task), task))
    _, url, _ = blocks.launch(**app.LAUNCH, prevent_thread_lock=True, quiet=True, server_name="127.0.0.1")
    yield url
    blocks.close(verbose=False)


@pytest.fixture
def browser(address, tmp_path):
    """The page, opened and filled."""
    options = webdriver.ChromeOptions()
    for flag in (*FLAGS, f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={WINDOW[0]},{WINDOW[1]}"):
        options.add_argument(flag)
    options.binary_location = shutil.which("chromium") or shutil.which("chromium-browser")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    driver.get_log("performance")  # of the empty page that it opens with
    driver.get(address)
    wait(driver, lambda: driver.find_elements(By.CSS_SELECTOR, "#steps .overview"))
    yield driver
    driver.quit()


def wait(driver, until):
    return WebDriverWait(driver, 30, poll_frequency=0.05).until(lambda _: until())


def click(driver, name, until):
    driver.find_element(By.ID, name).click()
    wait(driver, until)


def find(driver, css):
    return driver.execute_script("return [...document.querySelectorAll(arguments[0])].map(e => e.innerText)", css)


def panels(driver):
    """Text of the panels, one line each."""
    return [" ".join(words.split()) for words in find(driver, "#steps .panel")]


def keep(driver, name):
    if "SCREENSHOTS" in os.environ:
        driver.save_screenshot(str(Path(os.environ["SCREENSHOTS"]) / f"{name}.png"))


def paste(driver, line, until):
    box = driver.find_element(By.CSS_SELECTOR, "#line textarea")
    box.send_keys(Keys.CONTROL, "a")
    box.send_keys(line)
    click(driver, "use", until)


def open_own(driver):
    paste(driver, LINE, lambda: "Your own graph" in "".join(find(driver, "#message")))


def choose_arm(driver, place):
    """Of the arms that start with 3 and with 7."""
    options = "#arm li[role=option]"
    driver.find_element(By.CSS_SELECTOR, "#arm input").click()
    wait(driver, lambda: len(find(driver, options)) == 2)
    assert [words.split()[-1] for words in find(driver, options)] == ["3", "7"]
    driver.find_elements(By.CSS_SELECTOR, options)[place].click()
    wait(driver, lambda: not find(driver, options))


def test_step_through(browser):
    """Catches: buttons that do nothing, panels of another step, free running that sees the right nodes."""
    open_own(browser)
    keep(browser, "1-decision")
    assert panels(browser)[1].startswith("On its own shown its own nodes Position 2, shown: graph 32 Writes 3: ✗ wrong")
    click(browser, "next", lambda: "Position 3" in panels(browser)[0])
    forced, free = panels(browser)
    assert "shown: graph 32 34 Writes 6: ✓ right." in forced
    assert "shown: graph 32 3 Writes 19: ✗ wrong, the right node is 6." in free
    click(browser, "next", lambda: "Position 4" in panels(browser)[0])
    click(browser, "next", lambda: "Position 5" in panels(browser)[0])
    keep(browser, "2-end")
    assert "shown: graph 32 3 19 47 Writes 12: ✓ right." in panels(browser)[1]
    alt = browser.find_element(By.CSS_SELECTOR, "#picture img").get_attribute("alt")
    assert alt == "Graph: source 32, goal 12. On its own, step 5 of 5: 32, 3, 19, 47, 12"
    click(browser, "previous", lambda: "Position 4" in panels(browser)[0])
    slider = browser.find_element(By.CSS_SELECTOR, "#step input[type=range]")
    slider.send_keys(Keys.HOME)
    wait(browser, lambda: "Position 1" in panels(browser)[0])


def test_reveal_a_wrong_arm(browser):
    """Catches: the chosen arm not the revealed one, another choice that changes nothing, no way back."""
    open_own(browser)
    choose_arm(browser, 1)
    click(browser, "reveal", lambda: any("Given: 7." in words for words in panels(browser)))
    assert find(browser, "#reveal") == ["Take it back"]
    assert "Given 7, it went on along the wrong arm." in find(browser, "#steps .verdict")[0]
    click(browser, "next", lambda: "graph 32 7 Writes 8: ✗ wrong" in panels(browser)[1])
    click(browser, "next", lambda: "graph 32 7 8 Writes 9: ✗ wrong" in panels(browser)[1])
    keep(browser, "3-wrong-arm")
    alt = browser.find_element(By.CSS_SELECTOR, "#picture img").get_attribute("alt")
    assert alt.endswith("Wrong arm revealed, step 4 of 5: 32, 7, 8, 9")
    choose_arm(browser, 0)
    wait(browser, lambda: "Given: 3." in panels(browser)[1])
    click(browser, "reveal", lambda: panels(browser)[1].startswith("On its own"))
    assert find(browser, "#reveal") == [app.REVEAL]


def test_bad_line_and_another_graph(browser):
    """Catches: a refused line that says nothing, or that changes the graph; a button that shows the same one again."""
    before = find(browser, "#steps .overview")
    paste(browser, EVIL, lambda: "not a path-star line" in "".join(find(browser, "#message [role=alert]")))
    keep(browser, "4-refused")
    assert find(browser, "#steps .overview") == before
    click(browser, "another", lambda: find(browser, "#steps .overview") != before)
    assert find(browser, "#message [role=alert]") == []
    assert browser.find_element(By.CSS_SELECTOR, "#number input").get_attribute("value") == "1"


def test_planted_markup_stays_text(browser):
    """Catches: markup of a tokenizer, a model's name or a pasted line that runs in the page, a template that evaluates
    it."""
    open_own(browser)
    paste(browser, EVIL, lambda: find(browser, "#message [role=alert]"))
    assert browser.execute_script("return window.harm === undefined")
    assert browser.execute_script("return document.querySelectorAll('.ntf script, .ntf img[src=x]').length") == 0
    assert "<script>win" in find(browser, "#steps .bar .name")[0]
    assert EVIL in find(browser, ".ntf p.dim")[0]


def test_one_laptop_screen_and_no_other_host(browser, address):
    """Catches: horizontal scrolling at 1366x768, controls below the fold, requests to other hosts, errors in the
    console."""
    open_own(browser)
    click(browser, "next", lambda: "Position 3" in panels(browser)[0])
    width, *shown = browser.execute_script("return [document.documentElement.scrollWidth, innerWidth, innerHeight]")
    assert width <= shown[0] == WINDOW[0]
    for name in ("picture", "next", "reveal", "steps", "another"):
        box = browser.find_element(By.ID, name).rect
        assert box["y"] + box["height"] <= shown[1], name
    inner = browser.execute_script(
        "return [...document.querySelectorAll('.ntf, .scroll')].filter(e => e.scrollWidth > e.clientWidth + 1).length"
    )
    assert inner == 0
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"}
    assert any(url.startswith(address) for url in asked)
    assert [url for url in asked if not url.startswith((address, "data:", "chrome:", "blob:"))] == []
    assert [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_dark_theme_is_legible(browser, address):
    """Catches: text in the dark theme's light grey on white paper."""
    browser.get(address + "?__theme=dark")
    wait(browser, lambda: find(browser, "#steps .overview"))
    keep(browser, "5-dark")
    inks = browser.execute_script(
        "return arguments[0].map(css => getComputedStyle(document.querySelector(css)).color)",
        [".ntf h1", ".ntf p b", "#steps h2", "#steps .node", "#steps .bar .name", "#steps .bar .share"],
    )
    assert inks == ["rgb(26, 26, 26)"] * 6
