"""``lola profile`` as a user runs it."""

import json

import numpy as np
import pytest
from tiny_models import FALLING, save_config

import lola
from lola.cli.main import main


def arguments(tmp_path, *more, device="cpu", batch="2"):
    model = save_config(tmp_path / "m", "bert")
    options = ["profile", "--model", model, "--device", device, "--batch", batch, "--seq", "6", "--threads", "1"]
    return [*options, "--limit-s", "0.01", "--monotone", "isotonic", *map(str, more)]


def test_a_profile_is_measured_saved_and_drawn(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("lola.profiling.timing._times", lambda *_: FALLING)
    out, picture = tmp_path / "p.json", tmp_path / "p.png"
    more = ("--out", out, "--figure", picture, "--reference", "snapdragon-8-gen-3")
    assert main(arguments(tmp_path, *more)) == 0
    said = capsys.readouterr().out
    for text in (
        "R²",
        "d(L)/d(1): ",
        "one more block on the way: ",
        "spread: the middle half of a depth's runs spans at most 0 % of its median",
        "made to rise: the latency fell with depth, by more than noise explains; isotonic regression changed a median "
        "by at most 25 %",
        "not monotone: latency falls from ",
        "made to rise by isotonic regression",
        "latency: as measured, × ",
    ):
        assert text in said
    assert "nan" not in said  # three depths are too few to leave one out
    assert picture.read_bytes().startswith(b"\x89PNG")
    profile = lola.load_profile(out)
    lola.save_profile(profile, tmp_path / "again.json")
    assert (tmp_path / "again.json").read_text() == out.read_text()
    assert profile.provenance.reference == "snapdragon-8-gen-3"
    assert profile.evidence.latency_iqr_s.shape == (3,)


def test_four_depths_are_run_and_the_command_says_so(tmp_path, capsys):
    """Unless asked to be exact; how long it takes is said before, on standard error."""
    model = save_config(tmp_path / "m", "bert", num_hidden_layers=7)
    options = ["profile", "--model", model, "--batch", "2", "--seq", "6", "--threads", "1", "--limit-s", "0.01"]
    more = ["--monotone", "isotonic", "--out", str(tmp_path / "p.json"), "--figure", str(tmp_path / "p.png")]
    for exact in ([], ["--exact"]):
        assert main([*options, *more, *exact]) == 0
        said = capsys.readouterr()
        assert "lola: measuring takes about " in said.err
        assert "a depth left out is predicted to" in said.out
        run = "run: depth 1, 3, 5, 7; the others lie on the line between them (--exact runs all)"
        assert (run in said.out) == (not exact)
        assert (lola.load_profile(tmp_path / "p.json").evidence.repeats > 0).all() == bool(exact)


def test_the_figure_tells_what_was_run_from_what_lies_between(tmp_path):
    from lola.figures.profile import draw_profile

    evidence = lola.Evidence(latency_iqr_s=[0.1, 0, 0.1], repeats=[3, 0, 3])
    costs = {"memory_bytes": [1e9, 2e9, 3e9], "latency_s": [1.0, 2.0, 3.0], "upload_bits": 1.0}
    extras = {"extra_latency_s": 0.5, "extra_memory_bytes": 1e8}
    figure = draw_profile(lola.Profile(**costs, **extras, evidence=evidence))
    for axes, values, at_once in zip(figure.axes, ([1, 2, 3], [1, 2, 3]), ([1, 2.1, 3.2], [1, 2.5, 4]), strict=True):
        lines = {line.get_label(): line.get_xydata().tolist() for line in axes.get_lines()}
        assert lines["not run: between those beside it"] == [[2, values[1]]]
        assert lines["with all shallower depths trained, too"] == [[i + 1, at_once[i]] for i in range(3)]
        assert [[1, values[0]], [3, values[2]]] in [line.get_xydata().tolist() for line in axes.get_lines()]
    for axes in draw_profile(lola.Profile(**costs)).axes:
        assert not any("not run" in line.get_label() or "too" in line.get_label() for line in axes.get_lines())


def test_one_device_alone_is_drawn(tmp_path):
    from lola.figures.picture import save_figure
    from lola.figures.profile import draw_alone

    profile = lola.Profile(memory_bytes=[1e9, 2e9], latency_s=[1.0, 2.0], upload_bits=1.0)
    save_figure(draw_alone(profile, {"weights": 1e9, "iteration": 2e9}), tmp_path / "alone.png")
    assert (tmp_path / "alone.png").read_bytes().startswith(b"\x89PNG")


def test_a_profile_is_estimated(tmp_path, capsys):
    assert main(arguments(tmp_path, "--out", tmp_path / "p.json", device="estimate")) == 0
    assert "estimated, snapdragon-8-gen-3 at 1.5 TFLOP/s" in capsys.readouterr().out
    assert (np.diff(lola.load_profile(tmp_path / "p.json").latency_s) > 0).all()


def test_what_is_wrong_is_said_before_anything_runs(tmp_path, capsys):
    foreign, other, stale = tmp_path / "foreign.json", tmp_path / "other.json", tmp_path / "stale.json"
    foreign.write_text('{"format": "lola-schedule", "version": 1}')
    stale.write_text('{"format": "lola-profile", "version": 2}')
    lola.save_profile(
        lola.Profile(
            memory_bytes=[1.0],
            latency_s=[1.0],
            upload_bits=1.0,
            provenance=lola.Provenance("else", 2, 6, "float32", "measured", "bench"),
        ),
        other,
    )
    for more, message in (
        (("--out", foreign), '"format" must be "lola-profile", got \'lola-schedule\'; lola verify takes it'),
        (("--out", stale), '"version" must be 1, got 2; a newer lola may have written it'),
        (
            ("--out", other),
            "holds another profile (else, batch 2, sequence 6, float32: measured, bench), which differs in model",
        ),
        (("--out", "-"), "--out must be a file, got '-'; name one, such as p.json"),
        (("--out", tmp_path / "no" / "p.json"), "the folder to write into does not exist"),
        (("--figure", tmp_path / "m" / "config.json"), "config.json: is an input; write to another file than"),
        (("--force", "--out", tmp_path / "m" / "config.json"), "config.json: is an input; write to another file than"),
        (("--out", tmp_path / "p", "--figure", tmp_path / "p"), "p: is named for two outputs"),
        (("--lora-targets", "qkv"), "LoRA has no target: the blocks have no qkv"),
        (("--dtype", "int8"), "dtype must be one of"),
        (("--reference", "abacus"), "reference must be one of"),
    ):
        assert main(arguments(tmp_path, *more)) == 64
        error = capsys.readouterr().err
        assert error.startswith("lola: ")
        assert message in error
    assert main(arguments(tmp_path, batch="0")) == 64
    assert "batch_size must be at least 1, got 0" in capsys.readouterr().err
    assert main(arguments(tmp_path, device="tpu")) == 64
    assert "device must be cpu or cuda (a GPU), got 'tpu'; or estimate" in capsys.readouterr().err
    assert main(arguments(tmp_path, device="gpu")) == 64
    assert (
        "device must be cpu or cuda (a GPU), got 'gpu'; or estimate, which runs on neither" in capsys.readouterr().err
    )
    assert main(arguments(tmp_path, "--out", other, "--force")) == 0
    assert main(arguments(tmp_path, "--out", other)) == 0  # the same thing again


@pytest.mark.parametrize(
    "command, option, said",
    [
        ("profile", "--repeats", "iterations of each depth, at least, whatever --limit-s says"),
        ("profile", "--limit-s", "begin no repeats beyond --repeats after this"),
        ("export", "--round", "of the checkpoint to take, of the last two, which a run keeps"),
    ],
)
def test_the_help_says_what_wins_and_what_is_kept(command, option, said, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert said in text[text.index(f" {option} ", text.index("options:")) :]


def test_an_interrupted_profile_leaves_what_was_there(tmp_path, capsys, monkeypatch):
    out = tmp_path / "p.json"
    assert main(arguments(tmp_path, "--out", out)) == 0
    before = out.read_text()

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("lola.profiling.timing._times", interrupt)
    assert main(arguments(tmp_path, "--out", out)) == 130
    assert "lola: interrupted; no file was written" in capsys.readouterr().err
    assert out.read_text() == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_damaged_evidence_is_refused(tmp_path):
    profile = lola.Profile(
        memory_bytes=[1.0, 2.0], latency_s=[1.0, 2.0], upload_bits=1.0, evidence=lola.Evidence(repeats=[5, 5])
    )
    lola.save_profile(profile, tmp_path / "p.json")
    data = json.loads((tmp_path / "p.json").read_text())
    for evidence, message in (
        ({"repeat": [5, 5]}, "evidence: unknown key 'repeat'. Did you mean 'repeats'?"),
        ({"repeats": [5]}, "repeats must have 2 entries, as many as latency_s; got 1"),
        ({"repeats": [5, -5]}, "repeats must be finite and >= 0"),
        ({"repeats": [5, "x"]}, "repeats\\[1\\]: a plain number was wanted"),
        ([], "evidence: a table .* was wanted"),
    ):
        (tmp_path / "p.json").write_text(json.dumps(data | {"evidence": evidence}))
        with pytest.raises(lola.FormatError, match=message):
            lola.load_profile(tmp_path / "p.json")
    with pytest.raises(TypeError, match="evidence must be a lola.Evidence, got list"):
        lola.Profile(memory_bytes=[1.0], latency_s=[1.0], upload_bits=1.0, evidence=[5])
    for change, message in (
        ({"seed": 1.5}, "seed must be an integer, got 1.5"),
        ({"lora_targets": "query"}, "lora_targets must be a list of names, got 'query'"),
        ({"threads": 0}, "threads must be at least 1"),
        ({"attention": 3}, "attention must be text, got 3"),
        ({"reference": "phone"}, "reference and latency_factor belong together"),
        ({"reference": "phone", "latency_factor": -1}, "latency_factor must be finite and > 0"),
    ):
        known = {
            "model": "m",
            "batch_size": 1,
            "sequence_length": 1,
            "dtype": "d",
            "source": "measured",
            "hardware": "h",
        }
        (tmp_path / "p.json").write_text(json.dumps(data | {"provenance": known | change}))
        with pytest.raises(lola.FormatError, match=message):
            lola.load_profile(tmp_path / "p.json")


def test_a_profile_is_no_stream(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments(tmp_path, "--out", "-")) == 64
    assert capsys.readouterr().err == "lola: --out must be a file, got '-'; name one, such as p.json\n"
    assert not (tmp_path / "-").exists()


@pytest.mark.parametrize("device", ["cpu", "estimate"])
def test_stages_are_printed_saved_and_drawn(tmp_path, capsys, device):
    out, picture = tmp_path / "s.json", tmp_path / "s.png"
    more = ("--stages", "--prompts", "3", "--out", out, "--figure", picture, "--reference", "snapdragon-8-gen-3")
    options = [
        option for option in arguments(tmp_path, *more, device=device) if option not in ("--monotone", "isotonic")
    ]
    assert main(options) == 0
    said = capsys.readouterr().out
    lines = said.splitlines()
    heads = ["forward", "backward", "training", "workspace", "inference", "tunable", "hop", "return"]
    assert lines[0].split() == heads
    assert [line.split()[0] for line in lines[2:7]] == ["embedding", "block", "block", "block", "head"]
    assert lines[6].split()[-2:] == ["-", "-"]
    assert "one client alone, training: " in said
    assert "one client alone, inference: " in said
    assert "s forward, " in said
    assert ("seconds: as measured, × " in said) == (device == "cpu")
    assert picture.read_bytes().startswith(b"\x89PNG")
    stages = lola.load_stages(out)
    assert stages.provenance.prompts == 3
    assert stages.provenance.source == ("measured" if device == "cpu" else "estimated")
    assert main([*options[:-2], "--batch", "4"]) == 64  # not over another's
    assert "holds another profile" in capsys.readouterr().err


@pytest.mark.parametrize(
    "more, message",
    [
        (("--exact",), "--exact is of depths, and --stages of modules was wanted; leave one of them out"),
        (("--check-process",), "--check-process is of depths"),
        ((), "--monotone is of depths"),
        (("--prompts", "0"), "prompts must be at least 1, got 0"),
    ],
)
def test_options_that_stages_have_not_are_refused(tmp_path, capsys, more, message):
    assert main(arguments(tmp_path, "--stages", *more)) == 64
    assert message in capsys.readouterr().err


def test_stages_are_of_the_cpu_or_estimated(tmp_path, capsys):
    options = [o for o in arguments(tmp_path, "--stages", device="cuda") if o not in ("--monotone", "isotonic")]
    assert main(options) == 64
    assert "--device must be cpu or estimate with --stages, got 'cuda'; take one of them" in capsys.readouterr().err


def test_the_figure_of_stages_shows_seconds_bytes_and_bits():
    from matplotlib.container import BarContainer

    from lola.figures.stages import draw_stages

    costs = {"forward_s": [1, 2, 1], "backward_s": [0, 3, 1], "memory_bytes": [1e6, 3e6, 1e5], "result_bits": 64}
    sizes = {"inference_memory_bytes": [1e6, 1e6, 2e5], "hop_bits": 8e6, "return_bits": [0, 8e6], "tunable_bits": 1}
    stages = lola.StageProfile(**costs, **sizes, batch_size=1, workspace_bytes=[0, 5e5, 0], forward_iqr_s=[0, 0.2, 0])
    seconds, memory, traffic = draw_stages(stages).axes
    widths = [[[bar.get_width() for bar in bars] for bars in axes.containers] for axes in (memory, traffic)]
    assert widths == [[[1, 1, 0.2], [0, 2, 0], [0, 0.5, 0]], [[8, 8], [0, 8]]]
    bars = [container for container in seconds.containers if isinstance(container, BarContainer)]
    assert [[bar.get_width() for bar in each] for each in bars] == [[1, 2, 1], [0, 3, 1]]
    assert [text.get_text() for text in seconds.get_yticklabels()] == ["embedding", "block 1", "head"]
    assert seconds.get_title(loc="left") == "8 s a batch"
