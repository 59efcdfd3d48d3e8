"""The page in a browser: it renders, says nothing to the network, and does what it offers."""

import json
import shutil
import time

import pytest

import offlinerlkit_romi
from tests.support.made_up import study

webdriver = pytest.importorskip("selenium.webdriver")
pytest.importorskip("jinja2")
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER), reason="no browser: apt-get install chromium chromium-driver"
    ),
]
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
WIDTHS = [1280, 390]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    root = tmp_path_factory.mktemp("report")
    tasks = ("hopper-medium-v2", "walker2d-medium-v2")
    log = study(root / "log", tasks=tasks, algorithms=("romi", "mopo", "iql"))
    return offlinerlkit_romi.report(log, root / "out", figures=False)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(flag)
    options.binary_location = CHROMIUM
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def open_page(browser, page, width, scheme="light"):
    """Open it afresh; what was requested and complained of before is forgotten."""
    browser.get("about:blank")
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    scheme = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", scheme)
    browser.get(page.as_uri())


def draw_all(browser):
    """Unfold everything and scroll past it, as a reader does; returns (charts, drawn ones)."""
    browser.execute_script("document.querySelectorAll('details').forEach(x => x.open = true)")
    script = "return [...document.querySelectorAll('figure')].map(x => x.dataset.drawn === '1')"
    for _ in range(50):
        drawn = browser.execute_script(script)
        if all(drawn):
            break
        browser.execute_script(
            "document.querySelectorAll('figure')[arguments[0]].scrollIntoView()", drawn.index(False)
        )
        time.sleep(0.1)
    return len(drawn), sum(drawn)


@pytest.mark.parametrize("width", WIDTHS)
def test_all_charts_are_drawn_within_the_width_without_a_complaint_or_a_request(
    browser, page, width
):
    open_page(browser, page, width)
    charts, drawn = draw_all(browser)
    assert charts == drawn > 15
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    empty = "return [...document.querySelectorAll('figure svg')].filter(x => !x.querySelector("
    assert browser.execute_script(f"{empty}'.line, circle')).length") == 0
    bad = "return [...document.querySelectorAll('svg [d], svg [cx]')].filter(x => /NaN|Infinity|"
    assert browser.execute_script(f"{bad}undefined/.test(x.outerHTML)).length") == 0
    assert browser.get_log("browser") == []
    told = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [
        x["params"]["request"]["url"] for x in told if x["method"] == "Network.requestWillBeSent"
    ]
    assert {url for url in urls if not url.startswith("data:")} <= {page.as_uri(), "about:blank"}


def lines_of(browser):
    return browser.execute_script(
        "return document.querySelectorAll('[data-chart=\"0-curves-0\"] .line').length"
    )


def click(browser, selector):
    browser.execute_script(f"document.querySelector({json.dumps(selector)}).click()")


def test_an_algorithm_is_switched_off_in_charts_and_tables_and_on_again(browser, page):
    open_page(browser, page, 1280)
    draw_all(browser)
    rows = "return document.querySelectorAll('tr[data-algo=romi][hidden]').length"
    browser.execute_script("document.querySelector('[data-chart=\"0-curves-0\"]').scrollIntoView()")
    time.sleep(0.3)
    assert lines_of(browser) == 3 and browser.execute_script(rows) == 0
    click(browser, ".chip[data-algo=romi]")
    assert lines_of(browser) == 2 and browser.execute_script(rows) > 1
    click(browser, ".chip[data-algo=romi]")
    assert lines_of(browser) == 3 and browser.execute_script(rows) == 0


def test_a_column_sorts_by_its_numbers_both_ways(browser, page):
    open_page(browser, page, 1280)
    script = (
        "const t = document.querySelector('[aria-label^=Last] table');"
        "if (arguments[0]) t.tHead.rows[0].cells[4].querySelector('button').click();"
        "return [...t.tBodies[0].rows].map(r => parseFloat(r.cells[4].textContent))"
    )
    before = browser.execute_script(script, False)
    down, up = browser.execute_script(script, True), browser.execute_script(script, True)
    assert before not in (down, up)
    assert down == sorted(before, reverse=True) and up == sorted(before)


def test_a_curve_tells_its_numbers_under_the_pointer(browser, page):
    open_page(browser, page, 1280)
    svg = "document.querySelector('[data-chart=\"0-curves-0\"] svg')"
    browser.execute_script(f"{svg}.scrollIntoView({{block: 'center'}})")
    time.sleep(0.3)
    browser.execute_script(
        f"const s = {svg}, b = s.getBoundingClientRect(); s.dispatchEvent(new PointerEvent("
        "'pointermove', {clientX: b.left + b.width / 2, clientY: b.top + 60}))"
    )
    tip = browser.execute_script(f"return {svg}.parentElement.querySelector('.tip').innerText")
    step, *values = tip.split("\n")
    assert step.endswith("policy steps") and len(values) == 3
    scores = [float(value.split(": ")[1].split(" ")[0]) for value in values]
    assert scores == sorted(scores, reverse=True) and values[0].startswith("romi: ")


def test_it_is_dark_where_the_reader_likes_it_dark_and_changes_at_a_click(browser, page):
    ground = "return getComputedStyle(document.body).backgroundColor"
    seen = []
    for scheme in ("light", "dark"):
        open_page(browser, page, 1280, scheme)
        seen.append(browser.execute_script(ground))
        click(browser, "#theme")
        seen.append(browser.execute_script(ground))
    light, dark = seen[:2]
    assert light != dark and seen == [light, dark, dark, light]


def test_a_link_opens_the_part_it_leads_to(browser, page):
    open_page(browser, page, 390)
    folded = "return document.querySelector('details[id$=gradients]').open"
    assert not browser.execute_script(folded)
    click(browser, "nav a[href$=gradients]")
    time.sleep(0.3)
    assert browser.execute_script(folded)


def test_one_task_can_be_looked_at_alone(browser, page):
    open_page(browser, page, 1280)
    browser.execute_script(
        "const t = document.getElementById('task'); t.value = 'hopper-medium-v2'; t.onchange()"
    )
    away = browser.execute_script(
        "return [...document.querySelectorAll('figure.away')].map(x => x.dataset.task)"
    )
    assert set(away) == {"walker2d-medium-v2"}
