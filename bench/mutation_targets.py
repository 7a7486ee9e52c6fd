"""Which tests judge the faults that mutation.py puts into a file."""

from __future__ import annotations

from typing import NamedTuple

UNCOMPILED, COMPILED = {"NUMBA_DISABLE_JIT": "1"}, {"LOLA_NUMBA_CACHE": "0"}
SOLVERS = (UNCOMPILED, COMPILED)
USUAL: tuple[dict[str, str], ...] = ({},)  # its kernels are not what is changed, so the cache may serve them


class Target(NamedTuple):
    """Files, the tests that should notice a change in them (the likeliest first), and how these are run."""

    files: str
    tests: tuple[str, ...]
    ways: tuple[dict[str, str], ...]


# The first that fits a file holds.
TARGETS = (
    *(
        Target(
            file,
            tuple(
                f"tests/test_{name}.py"
                for name in ("tolerances", "verification", "proofs", "segment_proofs", "schedule")
            ),
            USUAL,
        )
        for file in ("lola/verification.py", "lola/proofs/*.py")
    ),
    Target("lola/tasks/glue.py", ("tests/adapters/test_glue.py",), USUAL),
    Target("lola/tasks/texts.py", ("tests/adapters/test_text.py",), USUAL),
    Target("lola/tasks/export.py", ("tests/adapters/test_export_command.py",), USUAL),
    Target(
        "lola/tasks/folder.py", ("tests/adapters/test_train_command.py", "tests/adapters/test_export_command.py"), USUAL
    ),
    Target("lola/ranks/*.py", ("tests/ranks/test_allocation.py", "tests/ranks/test_rank_files.py"), USUAL),
    Target("lola/tasks/importance.py", ("tests/ranks",), USUAL),
    *(
        Target(file, ("tests/adapters/test_training.py", "tests/adapters/test_train_command.py"), USUAL)
        for file in ("lola/tasks/settings.py", "lola/tasks/training.py")
    ),
    Target("lola/tasks/dealing.py", ("tests/adapters/test_training.py", "tests/devices/test_joining.py"), USUAL),
    *(
        Target(f"lola/tasks/{file}.py", ("tests/devices/test_joining.py", "tests/devices/test_commands.py"), USUAL)
        for file in ("announcement", "joining", "serving")
    ),
    *(
        Target(f"lola/devices/{file}.py", tuple(f"tests/devices/test_{name}.py" for name in tests), USUAL)
        for file, tests in {
            "status": ("status", "certificates"),
            "certificates": ("certificates", "mosquitto"),
            "mosquitto": ("certificates", "mosquitto", "flooding"),
            "joining": ("joining", "commands"),
            "serving": ("joining", "commands"),
            "timings": ("joining", "commands"),
        }.items()
    ),
    Target("lola/devices/*.py", ("tests/devices/test_faults.py", "tests/devices"), USUAL),
    Target("lola/chains/horizon.py", ("tests/test_horizon_proofs.py", "tests/test_horizon_command.py"), USUAL),
    Target("lola/chains/stages.py", ("tests/test_stages.py",), USUAL),
    Target("lola/chains/*.py", ("tests/chains",), USUAL),
    *(
        Target(f"lola/air/{file}.py", tuple(f"tests/air/test_{name}.py" for name in tests), USUAL)
        for file, tests in {
            "aircomp": ("uplinks", "aircomp"),
            "latency": ("latency",),
            "uplink": ("uplinks", "air_sessions"),
        }.items()
    ),
    Target("lola/air/*.py", ("tests/air",), USUAL),
    Target("lola/deft/prompted.py", ("tests/deft/test_prompted.py",), USUAL),
    Target("lola/deft/*.py", ("tests/deft",), USUAL),
    Target(
        "lola/adapters/quarantine.py", ("tests/adapters/test_quarantine.py", "tests/devices/test_influence.py"), USUAL
    ),
    Target("lola/adapters/compute.py", ("tests/adapters/test_round.py", "tests/adapters"), USUAL),
    Target("lola/adapters/c[hl][au]*.py", ("tests/adapters/test_chain.py", "tests/adapters"), USUAL),
    Target("lola/adapters/*.py", ("tests/adapters/test_session.py", "tests/adapters"), USUAL),
    Target("solvers/oracle/se*.py", ("tests/test_segment_oracle.py", "tests/test_oracles.py"), USUAL),
    Target("solvers/oracle/chains.py", ("tests/solvers/test_chain_oracle.py",), USUAL),
    Target("solvers/oracle/*.py", ("tests/test_oracles.py",), USUAL),
    Target("solvers/_jit.py", ("tests/test_imports.py", "tests/solvers/test_allocations.py"), USUAL),
    Target("solvers/checks.py", ("tests/test_schedule.py", "tests/test_tolerances.py", "tests/solvers"), SOLVERS),
    Target("solvers/lagrangian.py", ("tests/solvers/test_published.py", "tests/solvers"), SOLVERS),
    Target("solvers/cutting.py", ("tests/solvers/test_published.py", "tests/solvers"), SOLVERS),
    Target("solvers/segment*.py", ("tests/solvers/test_segments.py", "tests/solvers"), SOLVERS),
    Target("solvers/chain*.py", ("tests/solvers/test_chains.py", "tests/solvers/test_chain_proofs.py"), SOLVERS),
    Target(
        "solvers/channel_inversion.py", ("tests/solvers/test_air_sum.py", "tests/solvers/test_air_sum_proofs.py"), USUAL
    ),
    Target("solvers/water_filling.py", ("tests/solvers/test_air_product.py",), USUAL),
    Target(
        "solvers/deadline*.py",
        tuple(f"tests/solvers/test_deadline_{name}.py" for name in ("proofs", "prices", "ranks")),
        SOLVERS,
    ),
    Target("solvers/horizon*.py", ("tests/solvers/test_horizon.py", "tests/test_horizon_proofs.py"), USUAL),
    Target("solvers/hop*.py", ("tests/solvers/test_emulator_layers.py",), SOLVERS),
    Target("solvers/knapsack*.py", ("tests/solvers/test_device_selection.py",), SOLVERS),
    Target("solvers/multiple*.py", ("tests/solvers/test_rank_allocation.py",), SOLVERS),
    Target(
        "solvers/rank_gains.py",
        ("tests/solvers/test_rank_allocation.py", "tests/solvers/test_deadline_ranks.py"),
        SOLVERS,
    ),
    Target("solvers/cluster*.py", ("tests/solvers/test_clusters.py",), SOLVERS),
    Target("solvers/*_prices.py", ("tests/solvers/test_segments.py", "tests/solvers"), SOLVERS),
    Target("solvers/*.py", ("tests/solvers", "tests/test_properties.py"), SOLVERS),
)
