"""What a notebook shows: short texts, tables, and rows for a data frame."""

import json
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from scenario import small_problem

import lola


class Table(HTMLParser):
    """The cells of a table, line by line, and its caption."""

    def __init__(self, html):
        super().__init__()
        self.lines, self.caption, self._tag = [], "", ""
        self.feed(html)

    def handle_starttag(self, tag, _):
        self._tag = tag
        if tag == "tr":
            self.lines.append([])
        assert tag in {"table", "caption", "thead", "tbody", "tr", "th", "td"}

    def handle_data(self, data):
        if self._tag == "caption":
            self.caption += data
        else:
            self.lines[-1].append(data)


@pytest.fixture
def simulation():
    return lola.simulate(small_problem(), ["jbba", "ba"], rounds=300, n_devices=[5, 10], redraw="fleet")


def test_results_are_written_in_a_line(simulation):
    assert repr(lola.schedule(small_problem())).startswith("<Schedule jbba: 3 blocks in ")
    drawn = "each draws speed, memory and channel anew"
    assert repr(simulation) == f"<Simulation of jbba, ba: 300 rounds at 2 points of n_devices, {drawn}>"
    assert "at one point" in repr(lola.simulate(small_problem(), ["ba"], rounds=3))


@pytest.mark.parametrize("method", ["jbba", "random"])
def test_a_schedule_as_rows_and_as_a_dictionary(method, tmp_path):
    problem = small_problem()
    schedule = lola.schedule(problem, method, seed=1)
    rows = schedule.rows()
    assert [row["depth"] for row in rows] == [1, 2, 3]
    assert [row["device"] for row in rows] == schedule.device_of_block.tolist()
    assert max(row["total_s"] for row in rows) == schedule.latency_s
    longer = lola.schedule(small_problem(broadcast_s=0.5), method, seed=1)
    assert [row["total_s"] for row in longer.rows()] == pytest.approx([0.5 + row["total_s"] for row in rows], rel=1e-15)
    assert json.loads(json.dumps(rows)) == rows
    data = schedule.to_dict()
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert data["lower_bound_s"] == (schedule.lower_bound_s if method == "jbba" else None)
    lola.save_schedule(schedule, problem, tmp_path / "s.json")
    assert json.loads((tmp_path / "s.json").read_text())["schedule"] == data


def test_rows_and_the_notebooks_table_name_the_devices_that_have_names(tmp_path):
    problem = small_problem()
    nameless = replace(problem, fleet=replace(problem.fleet, name=None))
    assert "name" not in lola.schedule(nameless).rows()[0]
    names = [f"phone <{k}>" for k in range(problem.n_devices)]
    problem = replace(problem, fleet=replace(problem.fleet, name=names))
    schedule = lola.schedule(problem)
    assert [row["name"] for row in schedule.rows()] == [names[k] for k in schedule.device_of_block]
    assert f"<td>phone &lt;{schedule.device_of_block[0]}&gt;</td>" in schedule._repr_html_()
    lola.save_schedule(schedule, problem, tmp_path / "s.json")
    again, _ = lola.load_schedule(tmp_path / "s.json")
    assert again.rows() == schedule.rows()


def test_rows_are_ready_for_a_data_frame(simulation):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(simulation.rows())
    assert frame.shape == (4, 12)
    assert frame.groupby("method")["mean_s"].mean()["jbba"] == pytest.approx(simulation.mean_s[:, 0].mean())
    assert set(pandas.DataFrame(lola.schedule(small_problem()).rows())["hits_memory_wall"]) == {False}


def test_a_notebook_gets_tables(simulation):
    schedule = lola.schedule(small_problem())
    for shown, rows in ((schedule, schedule.rows()), (simulation, simulation.rows())):
        table = Table(shown._repr_html_())
        assert table.lines[0] == list(rows[0])
        assert len(table.lines) == len(rows) + 1
        assert table.caption
    assert Table(schedule._repr_html_()).lines[1][1] == str(schedule.device_of_block[0])


def test_whatever_a_table_says_is_escaped(simulation):
    method = "<script>alert('&')</script>"
    evil = replace(simulation, methods=(method, "ba"))
    html = evil._repr_html_()
    assert "<script" not in html
    assert html.count("&lt;script&gt;alert(&#x27;&amp;&#x27;)") == 3  # the caption, and a line a point
    assert any(method in line for line in Table(html).lines)


def test_the_version_is_looked_up_when_it_is_asked_for(tmp_path):
    from importlib.metadata import version

    assert lola.__version__ == version("lola-deft")
    code = "import sys, lola; print('lola.files.version' in sys.modules, lola.__version__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.split() == ["False", lola.__version__]


def test_only_what_holds_is_saved(tmp_path):
    schedule = lola.schedule(small_problem())
    with pytest.raises(lola.VerificationError, match="local_steps: is 2, but the problem has 3"):
        lola.save_schedule(schedule, small_problem(local_steps=3), tmp_path / "s.json")
    with pytest.raises(lola.VerificationError, match="the shares sum to"):
        lola.save_schedule(schedule, small_problem(bandwidth_hz=5e5), tmp_path / "s.json")
    assert not (tmp_path / "s.json").exists()
    with pytest.raises(lola.LolaError, match=r"problem must be a lola.Problem, got NoneType"):
        schedule.verify(None)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"seed": -1}, "seed must be at least 0, got -1; take any whole number from 0 on"),
        ({"seed": 0.5}, "seed must be an integer, got float"),
        ({"speed": (1, 0.5)}, r"speed must be \(low, high\), .* got \(1, 0.5\); the lower one comes first"),
        ({"memory_bytes": (1e9, np.inf)}, r"memory_bytes must be \(low, high\), two finite numbers"),
    ],
)
def test_a_fleet_is_sampled_from_what_makes_sense(arguments, message):
    with pytest.raises(lola.LolaError, match=message):
        lola.Fleet.sample(5, **arguments)
