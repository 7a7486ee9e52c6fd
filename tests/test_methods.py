"""The table of methods: one that is added while lola runs goes wherever the others go."""

import ast
import csv
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from scenario import random_problem, small_problem

import lola
from lola.adapters.setting import Setting
from lola.cli.main import main
from lola.cli.oracle import ask
from lola.figures.simulation import draw_simulation
from lola.methods import BY_NAME
from lola.methods.method import Answer, Method
from lola.proofs import KINDS
from lola.rounds import draw_rounds, latencies
from lola.solvers.checks import require

PACKAGE = Path(__file__).resolve().parents[1] / "lola"


@dataclass(frozen=True, eq=False)
class FloorProof:
    """No device computes this block in less than the bound."""

    kind: ClassVar[str] = "floor"
    block: int

    def check(self, problem, bound):
        quickest = problem.local_steps * problem.profile.latency_s[self.block] / problem.fleet.speed.max()
        require(quickest >= bound, "proof", f"a device computes block {self.block} in {quickest} s")

    def to_json(self):
        return {"block": self.block}

    @classmethod
    def from_json(cls, where, data, problem):
        return cls(int(data["block"]))


def roomiest(problem, seed):
    """The L devices with the most memory, the deepest block to the one with the most."""
    devices = np.argsort(problem.fleet.usable_memory_bytes, kind="stable")[-problem.n_blocks :]
    floor = problem.local_steps * problem.profile.latency_s[-1] / problem.fleet.speed.max()
    proof = FloorProof(problem.n_blocks - 1)
    return Answer(devices, np.full(problem.n_blocks, problem.bandwidth_hz / problem.n_blocks), floor, proof)


def no_pins(problem):
    return "is for free devices" if problem.pinned else ""


@pytest.fixture
def toy(monkeypatch):
    method = Method("roomiest", "the devices with the most memory.", roomiest, FloorProof, limits=(no_pins,))
    monkeypatch.setitem(BY_NAME, "roomiest", method)
    monkeypatch.setitem(KINDS, "floor", FloorProof)
    return method


@pytest.fixture
def scenario(tmp_path):
    """Files of the small problem, for the command."""
    problem = small_problem()
    lola.save_fleet(problem.fleet, tmp_path / "f.csv")
    lola.save_profile(problem.profile, tmp_path / "p.json")
    path = tmp_path / "s.toml"
    path.write_text('fleet = "f.csv"\nprofile = "p.json"\nbandwidth_hz = 1e6\nlocal_steps = 2\n')
    return str(path)


def test_the_names_are_those_of_the_table_at_the_moment(toy):
    assert isinstance(lola.METHODS, tuple)
    assert list(lola.METHODS) == list(BY_NAME)
    assert lola.METHODS[-1] == "roomiest"
    del BY_NAME["roomiest"]
    assert "roomiest" not in lola.METHODS
    assert all(name == method.name for name, method in BY_NAME.items())


def test_a_new_method_schedules_verifies_and_is_saved(toy, tmp_path):
    problem = small_problem()
    schedule = lola.schedule(problem, "roomiest")
    assert schedule.device_of_block.tolist() == [2, 0, 4]
    schedule.verify(problem)
    lola.save_schedule(schedule, problem, tmp_path / "s.json")
    again, same = lola.load_schedule(tmp_path / "s.json")
    assert (type(again.proof), again.proof.block) == (FloorProof, 2)
    again.verify(same)
    with pytest.raises(lola.VerificationError, match="^proof: a device computes block 0 in 2.0 s"):
        replace(again, proof=FloorProof(0)).verify(same)
    with pytest.raises(lola.VerificationError, match="HallProof proves another problem's bound"):
        replace(again, proof=lola.HallProof(np.array([0]))).verify(same)
    with pytest.raises(lola.VerificationError, match="jbba needs a proof of its bound; FloorProof proves another"):
        replace(lola.schedule(problem), proof=again.proof).verify(problem)
    with pytest.raises(ValueError, match="'roomiest' is for free devices; use 'jbba'"):
        lola.schedule(small_problem(pinned=[(0, 1)]), "roomiest")
    assert Setting(method="roomiest").method == "roomiest"
    assert ask("milp", schedule, problem, 60.0).startswith("oracle milp: ")


def test_no_methods_give_no_schedules():
    with pytest.raises(lola.LolaError, match="methods must be different methods, at least one; got"):
        lola.compare(small_problem(), [])


def test_a_new_method_is_compared_and_proven_by_the_command(toy, scenario, tmp_path, capsys):
    saved = str(tmp_path / "o.json")
    assert main(["schedule", scenario, "--method", "roomiest", "--compare", "--json", saved]) == 0
    printed = capsys.readouterr().out
    assert [line.split()[0] for line in printed.splitlines() if line.startswith(lola.METHODS)] == list(lola.METHODS)
    assert "(roomiest, 5 devices)" in printed
    claim = "bound: no schedule under an equal split of the bandwidth is faster than 2.800000 s, verified; this one may"
    assert claim in printed
    assert main(["verify", saved]) == 0
    assert claim in capsys.readouterr().out


def test_a_new_method_is_simulated(toy, scenario, tmp_path, capsys):
    table, picture = tmp_path / "m.csv", tmp_path / "m.png"
    options = ["--rounds", "20", "--snr-db", "10,20", "--csv", str(table), "--figure", str(picture)]
    assert main(["simulate", scenario, "--methods", "roomiest,ba", *options]) == 0
    assert capsys.readouterr().out.count("roomiest") == 3  # a heading and two points
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == ["roomiest", "ba"] * 2
    assert all(float(row["mean_s"]) > 2.8 for row in rows)
    assert picture.stat().st_size > 10_000


def test_rounds_are_what_schedules_are_whether_solved_in_a_batch_or_not(toy):
    problem = random_problem(3, n_devices=12, n_blocks=4, equal_uploads=True)
    rounds = draw_rounds(problem, 12, lola.RayleighFading(12, 10.0, seed=5), 15, 5, "channel")
    for name in lola.METHODS:
        latency, wall = latencies(problem, name, rounds, seed=5)
        assert (latency.shape, wall.shape) == ((15,), (15,))
        for row in range(15):
            one = replace(problem, fleet=rounds.fleet(row))
            alone = lola.schedule(one, name, seed=rounds.generator(row, 5))
            assert latency[row] == pytest.approx(alone.latency_s, rel=1e-12)
            assert wall[row] == alone.hits_memory_wall.sum()


def test_a_method_that_the_table_does_not_have_ends_in_words():
    problem = small_problem()
    wanted = "a method must be one of jbba, .*, random; got 'roomiest'"
    for call in (lola.schedule, lambda p, name: lola.simulate(p, (name,)), lambda _, name: Setting(method=name)):
        with pytest.raises(ValueError, match=wanted):
            call(problem, "roomiest")
    rounds = draw_rounds(problem, 5, lola.RayleighFading(5, 10.0), 2, 0, "channel")
    with pytest.raises(ValueError, match=wanted):
        latencies(problem, "roomiest", rounds, 0)
    with pytest.raises(ValueError, match=r"a method must be one of jbba, .*; got \['jbba'\]"):
        lola.schedule(problem, ["jbba"])
    with pytest.raises(lola.VerificationError, match=f"^method: {wanted}"):
        replace(lola.schedule(problem), method="roomiest").verify(problem)


def test_a_misspelt_method_and_a_text_for_a_list_are_told_what_was_meant():
    with pytest.raises(ValueError, match=r"a method must be one of jbba, .*; got 'jba'\. Did you mean 'jbba'\?"):
        lola.schedule(small_problem(), "jba")
    for call in (lola.compare, lola.simulate):
        with pytest.raises(
            ValueError, match=r"methods must be different methods in a list, such as \['jbba'\]; got one"
        ):
            call(small_problem(), "jbba")


def test_a_simulation_of_a_method_that_is_gone_is_drawn():
    simulation = lola.simulate(small_problem(), ("jbba", "ba"), rounds=5, redraw="fleet")
    axes = draw_simulation(replace(simulation, methods=("gone", "ba"))).axes[0]
    assert [text.get_text().split(":")[0] for text in axes.get_legend().get_texts()] == ["gone", "ba"]
    lines = axes.get_lines()
    assert lines[0].get_color() != lines[1].get_color()
    swept = lola.simulate(
        small_problem(), ("computation-aware", "ba"), rounds=20, bandwidth_hz=[1e6, 2e6], redraw="fleet"
    )
    assert swept.wall.any()
    assert len(draw_simulation(replace(swept, methods=("gone", "ba"))).axes) == 2


def test_a_proof_cannot_bring_a_check_of_its_own():
    class Agreeable(lola.HallProof):
        def check(self, problem, bound):
            pass

    problem = small_problem()
    schedule = lola.schedule(problem, "ba")
    with pytest.raises(lola.VerificationError, match="^proof: .* Agreeable proves another problem's bound"):
        replace(schedule, proof=Agreeable(schedule.proof.blocks)).verify(problem)


def test_every_method_says_what_it_does():
    assert "{methods}" not in lola.schedule.__doc__
    for method in BY_NAME.values():
        assert f"``'{method.name}'``: {method.summary.split(',')[0]}" in lola.schedule.__doc__


def test_methods_are_named_in_their_table_alone():
    """Others name the default, and the one that words who lacks memory; "random" is a word of other things, too."""
    names = set(lola.METHODS) - {"jbba", "ba", "random"}
    for path in PACKAGE.rglob("*.py"):
        texts = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
        assert path.parent.name == "methods" or not texts & names, path
