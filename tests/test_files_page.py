"""The page of the files names every key that the code knows, and no other; its examples and limits are the code's."""

import csv
import io
import json
import re
import tomllib
from pathlib import Path

import pytest
from pages import files, text

import lola

FILES = files("docs/files.md")


def tables():
    """Return by heading the rows of each table: key, type, what stands for it if left out, limits."""
    found = {}
    for section in re.split(r"^#+ ", text("docs/files.md"), flags=re.MULTILINE)[1:]:
        title, _, body = section.partition("\n")
        rows = [[cell.strip() for cell in line.split("|")[1:5]] for line in body.splitlines() if line.startswith("| `")]
        if rows:
            found[title] = {key.strip("`"): (kind, default, limits) for key, kind, default, limits in rows}
    return found


TABLES = tables()


def profile(data, folder):
    (folder / "p.json").write_text(json.dumps(data))
    return lola.load_profile(folder / "p.json")


def schedule(data, folder):
    (folder / "s.json").write_text(json.dumps(data))
    return lola.load_schedule(folder / "s.json")


def stages(data, folder):
    (folder / "stages.json").write_text(json.dumps(data))
    return lola.load_stages(folder / "stages.json")


def chain(data, folder):
    (folder / "c.json").write_text(json.dumps(data))
    return lola.load_chain(folder / "c.json")


def scenario(data, folder):
    for name in ("fleet.csv", "profile.json"):
        (folder / name).write_text(FILES[name])
    (folder / "s.toml").write_text("\n".join(f"{key} = {toml(value)}" for key, value in data.items()))
    return lola.load_scenario(folder / "s.toml")


def horizon(data, folder):
    (folder / "h.toml").write_text("\n".join(f"{key} = {toml(value)}" for key, value in data.items()))
    return lola.load_horizon(folder / "h.toml")


def plan(data, folder):
    (folder / "plan.json").write_text(json.dumps(data))
    return lola.load_horizon_plan(folder / "plan.json")


def importance(data, folder):
    (folder / "i.json").write_text(json.dumps(data))
    return lola.load_importance(folder / "i.json")


def ranks(data, folder):
    """Return a plan, and what it is verified with."""
    (folder / "r.json").write_text(json.dumps(data))
    plan, asked, problem = lola.load_ranks(folder / "r.json")
    return plan, (asked, problem)


def toml(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(one)}" for key, one in value.items()) + "}"
    return f"[{', '.join(map(toml, value))}]" if isinstance(value, list) else json.dumps(value)


def table_of(load):
    """Make a loader of rows of one that reads a file of columns."""

    def read(rows, folder):
        lines = io.StringIO()
        writer = csv.DictWriter(lines, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        (folder / "t.csv").write_text(lines.getvalue())
        return load(folder / "t.csv")

    return read


fleet, traces = table_of(lola.load_fleet), table_of(lola.load_traces)
clients = table_of(lambda path: lola.load_clients(path, spread_m=10.0))


def rows_of(name):
    return list(csv.DictReader(io.StringIO(FILES[name])))


def proven_by(method, **more):
    """Return the page's schedule as another method solves and saves it."""

    def example(folder):
        problem = scenario({"fleet": "fleet.csv", "profile": "profile.json", "bandwidth_hz": 6e6, **more}, folder)
        lola.save_schedule(lola.schedule(problem, method), problem, folder / "s.json")
        return json.loads((folder / "s.json").read_text())

    return example


def split_and_saved(folder):
    """Return as JSON how the page's model is split over the page's clients."""
    for name in ("clients.csv", "rates.csv", "stages.json"):
        (folder / name).write_text(FILES[name])
    linked = lola.load_clients(folder / "clients.csv", folder / "rates.csv")
    problem = lola.ChainProblem(lola.load_stages(folder / "stages.json"), linked)
    lola.save_chain(lola.split(problem), problem, folder / "c.json")
    return json.loads((folder / "c.json").read_text())


def due(folder):
    """Return as JSON the ranks of the page's importance by a deadline for a round of the page's scenario."""
    problem = scenario({"fleet": "fleet.csv", "profile": "profile.json", "bandwidth_hz": 6e6}, folder)
    asked = importance(json.loads(FILES["importance.json"]), folder)
    chosen = lola.allocate_ranks(asked, deadline_s=2.0, problem=problem)
    lola.save_ranks(chosen, asked, folder / "r.json", problem=problem)
    return json.loads((folder / "r.json").read_text())


def shown(name):
    read = {".csv": lambda _: rows_of(name), ".json": json.loads, ".toml": tomllib.loads}[Path(name).suffix]
    return lambda folder: read(FILES[name])


# By heading: an example, how it is loaded, and where in it the table's keys are.
PLACES = {
    "Fleet: CSV": (shown("fleet.csv"), fleet, (0,)),
    "Profile: JSON": (shown("profile.json"), profile, ()),
    "`provenance` of a profile": (shown("profile.json"), profile, ("provenance",)),
    "`evidence` of a profile": (shown("profile.json"), profile, ("evidence",)),
    "Stages: JSON": (shown("stages.json"), stages, ()),
    "Clients: CSV": (shown("clients.csv"), clients, (0,)),
    "Chain: JSON": (split_and_saved, chain, ()),
    "`chain`, the answer": (split_and_saved, chain, ("chain",)),
    "`proof` of a chain": (split_and_saved, chain, ("proof", 0)),
    "`problem` of a chain": (split_and_saved, chain, ("problem",)),
    "`clients` of a chain": (split_and_saved, chain, ("problem", "clients")),
    "Horizon: TOML": (shown("horizon.toml"), horizon, ()),
    "A model in `models`": (shown("horizon.toml"), horizon, ("models", 0)),
    "Plan: JSON": (shown("plan.json"), plan, ()),
    "`plan`, the answer of a horizon": (shown("plan.json"), plan, ("plan",)),
    "Importance: JSON": (shown("importance.json"), importance, ()),
    "Ranks: JSON": (shown("ranks.json"), ranks, ()),
    "`plan` of ranks under a budget": (shown("ranks.json"), ranks, ("plan",)),
    "`plan` of ranks by a deadline": (due, ranks, ("plan",)),
    "`proof` of ranks by a deadline": (due, ranks, ("plan", "proof")),
    "Scenario: TOML": (shown("scenario.toml"), scenario, ()),
    "A pair in `pinned` or `forbidden`": (shown("scenario.toml"), scenario, ("forbidden", 0)),
    "Schedule: JSON": (shown("schedule.json"), schedule, ()),
    "`schedule`, the answer": (shown("schedule.json"), schedule, ("schedule",)),
    "`proof` of kind `prices`": (shown("schedule.json"), schedule, ("proof",)),
    "`proof` of kind `potentials`": (proven_by("jbba", max_blocks="all"), schedule, ("proof",)),
    "`proof` of kind `hall`": (proven_by("ba"), schedule, ("proof",)),
    "`proof` of kind `multipliers`": (proven_by("jbba-dual-ascent"), schedule, ("proof",)),
    "`problem`, what was solved": (shown("schedule.json"), schedule, ("problem",)),
    "`fleet` of the problem": (shown("schedule.json"), schedule, ("problem", "fleet")),
    "Columns of a trace of capacity": (shown("capacity.csv"), traces, (0,)),
    "Columns of a trace of SNR": (shown("snr.csv"), traces, (0,)),
}
# What is read before the other keys, and so is not among those that a refusal lists.
FIRST = {"format", "version", "kind"}


def changed(data, place, change):
    """Change an example at a place; of a file of columns, every row alike."""
    for at in place:
        if at == 0 and isinstance(data[0], dict) and set(data[0]) != {"device", "depth"}:
            for row in data:
                change(row)
            return
        data = data[at]
    change(data)


def test_the_page_has_a_table_for_every_part():
    assert set(TABLES) == set(PLACES)


@pytest.mark.parametrize("title", [title for title in PLACES if "trace" not in title])
def test_a_refusal_of_an_unknown_key_knows_the_documented_ones(title, tmp_path):
    example, load, place = PLACES[title]
    data = example(tmp_path)
    changed(data, place, lambda part: part.update(zzz="1"))
    with pytest.raises(lola.FormatError, match="unknown key 'zzz'") as refusal:
        load(data, tmp_path)
    known = re.search(r"Known are (.*)", str(refusal.value))[1].rstrip(".").split(", ")
    assert set(known) == set(TABLES[title]) - FIRST


def test_a_refusal_of_unknown_traces_knows_the_documented_columns(tmp_path):
    with pytest.raises(lola.FormatError, match="are needed, each once") as refusal:
        traces([{"zzz": "1"}], tmp_path)
    known = re.search(r"the columns (\S+) \(capacity\) or (\S+) \(in dB", str(refusal.value)).groups()
    documented = [set(TABLES[f"Columns of a trace of {kind}"]) for kind in ("capacity", "SNR")]
    assert [set(columns.split(",")) for columns in known] == documented


@pytest.mark.parametrize("title, key", [(title, key) for title in TABLES for key in TABLES[title]])
def test_what_may_be_left_out_is_what_the_page_says(title, key, tmp_path):
    example, load, place = PLACES[title]
    _, default, _ = TABLES[title][key]
    data = example(tmp_path)
    load(data, tmp_path)
    changed(data, place, lambda part: part.pop(key, None))
    if default == "required" or (title == "Fleet: CSV" and key == "spectral_efficiency"):
        with pytest.raises(lola.FormatError):
            load(data, tmp_path)
    elif title not in ("`problem`, what was solved", "Schedule: JSON"):  # there the digest notices what is gone
        answer = load(data, tmp_path)
        if re.fullmatch(r"[\d.]+", default) and hasattr(answer, key):
            assert getattr(answer, key) == float(default)


@pytest.mark.parametrize(
    "title, key", [(t, k) for t in TABLES for k, row in TABLES[t].items() if re.match(r"[>≥] \d|−1000 …|0 … 1", row[2])]
)
def test_limits_are_what_the_page_says(title, key, tmp_path):
    """What lies outside is refused when it is read; of an answer and its proof, when it is verified."""
    example, load, place = PLACES[title]
    kind, _, limits = TABLES[title][key]
    outside = {">": 0, "≥": 0 if kind == "integer" and "≥ 1" in limits else -1, "−": -1000, "0": 1}[limits[0]]
    data = example(tmp_path)

    def replace(part):
        value = part.get(key)
        if value is None and kind.startswith("L numbers"):
            value = [1, 2, 3]
        part[key] = [outside, *value[1:]] if isinstance(value, list) else outside
        if key == "snr_db":
            part.pop("spectral_efficiency")
        if key == "latency_factor":
            part["reference"] = "another"

    changed(data, place, replace)
    if title.endswith(", the answer") or "`proof`" in title:
        answer, problem = load(data, tmp_path)
        with pytest.raises(lola.VerificationError):
            answer.verify(problem)
    else:
        with pytest.raises(lola.FormatError):
            load(data, tmp_path)


def test_the_examples_are_one_instance(tmp_path):
    """The page's schedule is the answer to its scenario, and its fleet by SNR the same fleet."""
    planned, case = plan(json.loads(FILES["plan.json"]), tmp_path)
    case.verify(planned)
    assert horizon(tomllib.loads(FILES["horizon.toml"]), tmp_path).plan().objective == planned.objective
    allocated, (asked, _) = ranks(json.loads(FILES["ranks.json"]), tmp_path)
    allocated.verify(asked)
    assert asked.gain.tolist() == importance(json.loads(FILES["importance.json"]), tmp_path).gain.tolist()
    answer, problem = schedule(json.loads(FILES["schedule.json"]), tmp_path)
    answer.verify(problem)
    assert scenario(tomllib.loads(FILES["scenario.toml"]), tmp_path).digest() == problem.digest()
    by_snr = fleet(rows_of("fleet-by-snr.csv"), tmp_path).spectral_efficiency
    assert by_snr == pytest.approx(problem.fleet.spectral_efficiency, rel=1e-4)
    assert {name: trace.size for name, trace in traces(rows_of("capacity.csv"), tmp_path).items()} == {
        "bus": 2,
        "walk": 1,
    }
    assert {name: trace.size for name, trace in traces(rows_of("snr.csv"), tmp_path).items()} == {"0": 2}


def test_the_page_names_the_built_in_kinds_of_proof(tmp_path):
    data = json.loads(FILES["schedule.json"])
    data["proof"]["kind"] = "zzz"
    with pytest.raises(lola.FormatError, match="kind: must be one of ") as refusal:
        schedule(data, tmp_path)
    known = re.search(r"must be one of (.*), got", str(refusal.value))[1].split(", ")
    assert {f"`proof` of kind `{kind}`" for kind in known} == {title for title in TABLES if "of kind" in title}
