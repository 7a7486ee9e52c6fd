"""A schedule put to work: cooperative fine-tuning in torch. Adapters solve nothing.

Names are imported when they are first used; torch (``lola-deft[torch]``) is needed when they run.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lola.adapters.deft import BlockGradient as BlockGradient
    from lola.adapters.deft import BlockTask as BlockTask
    from lola.adapters.deft import RoundPlan as RoundPlan
    from lola.adapters.deft import block_gradient as block_gradient
    from lola.adapters.record import RoundRecord as RoundRecord
    from lola.adapters.server import NormBound as NormBound
    from lola.adapters.server import RoundReport as RoundReport
    from lola.adapters.server import apply_round as apply_round
    from lola.adapters.session import CooperativeSession as CooperativeSession
    from lola.adapters.setting import Setting as Setting
    from lola.adapters.shards import ShardedData as ShardedData
    from lola.adapters.shards import dirichlet_shards as dirichlet_shards
    from lola.adapters.shards import iid_shards as iid_shards
    from lola.adapters.shards import trim_padding as trim_padding

_HOME = {
    "BlockGradient": "deft",
    "BlockTask": "deft",
    "CooperativeSession": "session",
    "NormBound": "server",
    "RoundPlan": "deft",
    "RoundRecord": "record",
    "RoundReport": "server",
    "Setting": "setting",
    "ShardedData": "shards",
    "apply_round": "server",
    "block_gradient": "deft",
    "dirichlet_shards": "shards",
    "iid_shards": "shards",
    "trim_padding": "shards",
}
__all__ = sorted(_HOME)  # pyright: ignore


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
