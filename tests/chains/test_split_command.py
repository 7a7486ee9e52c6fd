"""``lola split`` and ``lola verify`` of what it saved, as a user runs them."""

import json

import pytest
from chain_problems import toy_problem, toy_stages

import lola
from lola.cli.common import Exit
from lola.cli.main import main
from lola.cli.tables import chain_proof_line, chain_table, clusters_line, metrics_table

CLIENTS = "name,speed,memory_bytes,rows\nann,1,3e8,100\nbob,0.5,1e9,0\ncid,2,1e9,20\n"
RATES = "rate_bps,ann,bob,cid\nann,,4e7,\nbob,4e7,,8e7\ncid,2e7,1.6e8,\n"


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Options of the toy problem, in a folder with its files."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.csv").write_text(CLIENTS)
    (tmp_path / "r.csv").write_text(RATES)
    lola.save_stages(toy_stages(), tmp_path / "stages.json")
    return ["split", "--clients", "c.csv", "--rates", "r.csv", "--stages", "stages.json"]


def table_lines(out):
    return [line.split() for line in out.splitlines() if line.startswith(("embedding", "block", "head"))]


def test_a_bare_split_is_of_the_built_in_home(capsys):
    assert main(["split", "--batches", "10"]) == 0
    out, said = capsys.readouterr()
    assert said == ""
    assert "optimal: no split is faster than" in out
    assert "(training over " in out
    assert " of 8 clients)" in out
    assert "profile: roberta-base, batch 32, sequence 128" in out
    stages = table_lines(out)
    assert stages[0][0] == "embedding"
    assert len(stages) >= 2


def test_the_toy_problem_by_its_files(toy, capsys):
    assert main([*toy, "--start", "ann", "--json", "chain.json", "--figure", "chain.png"]) == 0
    out = capsys.readouterr().out
    assert table_lines(out) == [
        ["embedding", "ann", "0.20", "0.30", "0.100", "0.200", "0.300"],
        ["block", "1", "bob", "0.40", "1.00", "2.000", "0.150", "2.150"],
        ["block", "2", "…", "head", "cid", "0.41", "1.00", "0.700", "0.000", "0.700"],
    ]
    assert "batch: 3.150000 s (training over 3 of 3 clients)\n" in out
    assert "optimal: no split is faster than 3.150000 s, verified\nprofile: of unknown provenance\n" in out
    with open("chain.png", "rb") as picture:
        assert picture.read(4) == b"\x89PNG"
    chain, problem = lola.load_chain("chain.json")
    chain.verify(problem)
    assert chain.name == ("ann", "bob", "cid")
    assert main(["verify", "chain.json"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("chain.json: the chain holds, 3.150000 s a batch over 3 of 3 clients\noptimal: no split is")


def test_what_the_options_ask_for(toy, capsys):
    for options, line in (
        (["--micro-batches", "4"], "(training over 3 of 3 clients), in 4 parts, of one of which the table speaks"),
        (["--objective", "max"], "where many are under way: one every 2.000000 s\noptimal: no split has less than 2.0"),
        (["--batches", "3"], "round of 3: 9.450000 s, without delivery and upload"),
    ):
        assert main([*toy, "--start", "ann", *options]) == 0
        assert line in capsys.readouterr().out
    assert main([*toy, "--inference", "--order", "bob, cid"]) == 0
    assert "(inference over 1 of 3 clients)" in capsys.readouterr().out


def test_several_chains_at_once(toy, capsys):
    assert main([*toy, "--clusters", "2"]) == 0
    out = capsys.readouterr().out
    assert "chain 1: 1.250000 s a batch, from cid\nchain 2: 5.100000 s a batch, from ann\n" in out
    assert "clusters: 5.100000 s; no 2 chains have a faster slowest one than 5.100000 s, all sets of clients" in out
    assert main([*toy, "--clusters", "1", "--goal", "throughput"]) == 0
    assert "clusters: 0.8 batches a second; no chains together make more than 0.8, " in capsys.readouterr().out
    for options, said in (
        (["--json", "chain.json"], "--clusters prints its chains, got --json as well, which is of one; leave one out"),
        (["--start", "ann"], "got a problem that starts with ann; leave --start out, or form one chain"),
        (["--clusters", "3"], "--clusters may be at most 2, the number of starts, got 3"),
    ):
        assert main([*toy, "--clusters", "2", *options]) == Exit.BAD_INPUT
        assert said in capsys.readouterr().err


def test_a_goal_that_is_none_is_refused(toy, capsys):
    with pytest.raises(SystemExit, match=str(Exit.BAD_INPUT)):
        main([*toy, "--clusters", "2", "--goal", "best"])
    assert "argument --goal: invalid choice: 'best'" in capsys.readouterr().err


def test_a_pipe_gets_the_chain_alone(toy, capsys):
    assert main([*toy, "--start", "ann", "--json", "-"]) == 0
    out, said = capsys.readouterr()
    assert json.loads(out)["chain"]["client_of_module"] == [0, 1, 2, 2]
    assert "optimal: no split" in said


def test_phones_in_a_house(shared_data, tmp_path, capsys):
    phones, saved = shared_data / "fleets" / "phones_20.csv", tmp_path / "chain.json"
    options = ["--clients", phones, "--spread-m", "30", "--seed", "1", "--objective", "max", "--json", saved]
    assert main(["split", *map(str, options)]) == 0
    out = capsys.readouterr().out
    assert " of 20 clients)" in out
    assert main(["verify", str(saved)]) == 0


@pytest.mark.parametrize(
    "options, said",
    [
        (["--start", "eve"], "--start: no client is named 'eve'; use a name of the clients, or an index"),
        (["--start", "bob"], "--start must hold training data, got bob with rows = 0"),
        (["--order", "ann,ann"], "--order must name clients once each, at least one"),
        (["--order", ""], "--order: no client is named ''"),
        (["--objective", "fast"], "--objective must be one of sum, max, pipeline; got 'fast'"),
        (["--micro-batches", "2", "--objective", "sum"], "--micro-batches belong to "),
        (["--micro-batches", "0"], "--micro-batches must be at least 1, got 0"),
        (["--energy-weight", "1"], "--energy-weight needs the clients' compute_power_w and transmit_power_w"),
        (["--batches", "0"], "--batches must be at least 1, got 0"),
        (["--goal", "throughput"], "--goal is of several chains, got 'throughput' and no --clusters; add --clusters"),
        (["--seed", "0"], "--seed is of the draw by --spread-m, got 0 where nothing is drawn; add --spread-m, or"),
        (["--place", "moon"], "--place must be one of indoor, outdoor; got 'moon'"),
        (["--bandwidth-hz", "0"], "--bandwidth-hz must be finite and > 0"),
        (["--bandwidth-hz", "1e6"], "c.csv: rates that are given need no radio, got one; leave one out"),
        (["--spread-m", "3"], "c.csv: links come from a file of rates, "),
        (["--stages", "c.csv"], "c.csv: not valid JSON"),
        (["--rates", "c.csv"], "c.csv, line 1: must begin with rate_bps, got 'name'"),
        (["--clients", "missing.csv"], "missing.csv: No such file"),
        (["--figure", "out.txt"], "out.txt: a figure must end in one of"),
        (["--json", "c.csv"], "c.csv: is an input; write to another file than c.csv"),
    ],
)
def test_bad_options_are_refused(toy, options, said, capsys):
    assert main([*toy, *options]) == Exit.BAD_INPUT
    assert f"lola: {said}" in capsys.readouterr().err


def test_what_cannot_be_ends_with_its_code(toy, capsys):
    with open("c.csv", "w") as file:
        file.write(CLIENTS.replace("1e9", "1e8"))
    assert main(toy) == Exit.INFEASIBLE
    assert "lola: infeasible: no chain exists: no client has the memory for module(s) 1, 2" in capsys.readouterr().err


def test_a_changed_chain_ends_with_its_code(toy, capsys):
    assert main([*toy, "--start", "ann", "--json", "chain.json"]) == 0
    with open("chain.json") as file:
        data = json.load(file)
    data["chain"]["latency_s"] *= 0.99
    with open("chain.json", "w") as file:
        json.dump(data, file)
    capsys.readouterr()
    assert main(["verify", "chain.json"]) == Exit.NOT_VERIFIED
    assert "lola: not verified: latency_s: is 3.118" in capsys.readouterr().err
    assert main(["verify", "chain.json", "--oracle", "milp"]) == Exit.BAD_INPUT
    assert "--oracle needs a schedule, got a chain, chain.json; leave it out" in capsys.readouterr().err


def test_tables_of_energy_and_of_a_gap():
    problem = toy_problem(start="ann", energy_weight=0.5)
    chain = lola.split(problem)
    assert chain_proof_line(chain, problem).endswith(" s, weighted with energy, verified")
    headings = [column.header for column in metrics_table(lola.chain_metrics(chain, problem), chain, problem).columns]
    assert headings[:4] == ["client", "busy\ns", "energy\nJ", "to clients\nMB"]
    assert [column.header for column in chain_table(chain, problem).columns][:2] == ["modules", "client"]
    loose = type(chain)(**{**vars(chain), "lower_bound_s": chain.objective_s / 1.25})
    assert chain_proof_line(loose, problem).endswith("; this one may be up to 25.0% from the optimum")
    clusters = lola.Clusters((chain,), "slowest", 2.0, 1.6, None)
    assert clusters_line(clusters).endswith(
        "1.600000 s, all sets of clients compared; these may be up to 25.0% from the optimum"
    )
