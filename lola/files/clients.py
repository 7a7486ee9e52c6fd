"""Clients and their links as files (CSV), and as parts of a chain's (JSON)."""

from importlib import resources
from typing import Any

import numpy as np

from lola.chains.clients import Clients, spread
from lola.chains.radio import Radio
from lola.files.formats import FormatError, StrPath, check_keys, csv_number, numbers, read_csv
from lola.files.problems import read_members
from lola.solvers.checks import FloatArray, shown

_REQUIRED = ("name", "speed", "memory_bytes")
_OWN = ("rows", "compute_power_w", "transmit_power_w")
_POSITION = ("x_m", "y_m", "z_m")
_RADIO = ("transmit_dbm", "noise_figure_db")
# A fleet may stand in for clients. Its channel is to a base station, not between them.
_PASSED_OVER = ("spectral_efficiency", "snr_db")
_CORNER = "rate_bps"
_JSON = ("name", "speed", "memory_bytes", "rate_bps", "rows", "compute_power_w", "transmit_power_w")


def load_clients(
    path: StrPath,
    rates: StrPath | None = None,
    *,
    spread_m: float | None = None,
    seed: int = 0,
    radio: Radio | None = None,
) -> Clients:
    """Read clients from CSV, and their links from another, or from where they are.

    Parameters
    ----------
    path : path-like
        A header, then one client a line: ``name,speed,memory_bytes``, optionally ``rows`` of training data,
        ``compute_power_w`` and ``transmit_power_w``, ``x_m,y_m`` and ``z_m``, and of the radio ``transmit_dbm`` and
        ``noise_figure_db``. A fleet's ``snr_db`` or ``spectral_efficiency`` may be there, and is passed over.
    rates : path-like, optional
        CSV of the links' rates: ``rate_bps`` and the clients' names in the first line, then a line for each sender that
        begins with its name; 0, or nothing, is no link.
    spread_m : float, optional
        In place of positions: the side of a square in which clients are drawn, in metres.
    seed : int
        Of that draw.
    radio : Radio, optional
        Of the links between positions; Wi-Fi in a house if left out.

    Raises
    ------
    FormatError
        Naming the file, the line or column, and the mend; or if links come from nowhere, or from two places.
    OSError
        If a file cannot be read.

    Examples
    --------
    >>> import lola
    >>> lola.save_fleet(lola.Fleet.sample(3, seed=1), "fleet.csv")
    >>> lola.load_clients("fleet.csv", spread_m=10, seed=1)
    <3 clients, 6 of 6 links>
    """
    optional = (*_OWN, *_POSITION, *_RADIO, *_PASSED_OVER)
    columns = read_members(path, "client", _REQUIRED, optional, _check_client)
    given = {column: columns.pop(column, None) for column in (*_POSITION, *_RADIO, *_PASSED_OVER)}
    placed = given["x_m"] is not None and given["y_m"] is not None
    if not placed and any(given[column] is not None for column in _POSITION):
        raise FormatError(f"{path}, line 1: x_m and y_m belong together, got one of them; add the other column")
    sources = {f"rates ({rates})": rates is not None, "x_m and y_m": placed, "spread_m": spread_m is not None}
    named = [source for source, there in sources.items() if there]
    if len(named) != 1:
        raise FormatError(
            f"{path}: links come from a file of rates, from columns x_m and y_m, or from spread_m, one of them; got "
            f"{' and '.join(named) or 'none'}"
        )
    on_air: dict[str, Any] = {name: given[name] for name in _RADIO if given[name] is not None}
    try:
        if rates is not None:
            if on_air or radio is not None:
                raise FormatError(
                    f"{path}: rates that are given need no radio, got {', '.join(on_air) or 'one'}; leave one out"
                )
            return Clients(rate_bps=_load_rates(rates, columns["name"]), **columns)
        if spread_m is not None:
            position = spread(len(columns["name"]), spread_m, seed)
        else:
            position = np.array([given[axis] for axis in _POSITION if given[axis] is not None]).T
        return Clients.from_positions(position, radio=radio, **on_air, **columns)
    except FormatError:
        raise
    except (TypeError, ValueError) as error:
        raise FormatError(f"{path}: {error}") from None


def _check_client(where: str, client: dict[str, Any]) -> None:
    if client["speed"] <= 0:
        raise FormatError(f"{where}, speed: must be > 0, got {client['speed']}; leave out a client that is off")
    for column in ("memory_bytes", *_OWN):
        if client.get(column, 0.0) < 0:
            raise FormatError(f"{where}, {column}: must be >= 0, got {client[column]}")
    if client.get("rows", 0.0) % 1:
        raise FormatError(f"{where}, rows: must be a whole number, got {client['rows']}")


def _load_rates(path: StrPath, names: list[str]) -> FloatArray:
    header, lines = read_csv(path, f"{_CORNER},{','.join(names)}")
    corner, *receivers = header
    if corner != _CORNER:
        raise FormatError(f"{path}, line 1: must begin with {_CORNER}, got {shown(corner)}; then the clients' names")
    _check_names(f"{path}, line 1", receivers, names)
    rate = np.zeros((len(names), len(names)))
    senders = []
    for where, (sender, *cells) in lines:
        senders.append(sender.strip())
        if senders[-1] not in names:
            raise FormatError(
                f"{where}: no client is named {shown(senders[-1])}; the names are those of the clients' file"
            )
        row = names.index(senders[-1])
        for receiver, cell in zip(receivers, cells, strict=True):
            value = csv_number(f"{where}, {receiver}", cell) if cell.strip() else 0.0
            if value < 0:
                raise FormatError(f"{where}, {receiver}: must be >= 0, got {value}; 0 is no link")
            rate[row, names.index(receiver)] = value
    _check_names(str(path), senders, names)
    return rate


def _check_names(where: str, listed: list[str], names: list[str]) -> None:
    """Refuse names that are not those of all clients, once each."""
    missing = [name for name in names if name not in listed]
    if missing or len(listed) != len(names):
        other = (
            shown(missing[0]) if missing else shown(next(x for x in listed if x not in names or listed.count(x) > 1))
        )
        what = f"{other} is missing" if missing else f"{other} is one too many"
        raise FormatError(f"{where}: every client's name is needed once, and no other; {what}")


def clients_to_json(clients: Clients) -> dict[str, Any]:
    """Return what `clients_from_json` reads."""
    arrays = {key: getattr(clients, key) for key in _JSON[1:]}
    lists = {key: array.tolist() for key, array in arrays.items() if array is not None}
    return {"name": clients.name, **lists}


def clients_from_json(where: str, data: dict[str, Any]) -> Clients:
    """Build clients from a JSON object."""
    check_keys(where, data, _JSON[:4], _JSON[4:])
    rates = data["rate_bps"]
    if not isinstance(rates, list):
        raise FormatError(f"{where}, rate_bps: a list of lists was wanted, got {shown(rates)}")
    arrays: dict[str, Any] = {key: numbers(f"{where}, {key}", data[key]) for key in _JSON[1:3]}
    arrays |= {key: numbers(f"{where}, {key}", data[key]) for key in _JSON[4:] if data.get(key) is not None}
    arrays["rate_bps"] = [numbers(f"{where}, rate_bps[{row}]", rate) for row, rate in enumerate(rates)]
    try:
        return Clients(name=data["name"], **arrays)
    except (TypeError, ValueError) as error:
        raise FormatError(f"{where}: {error}") from None


def builtin_clients(rates: StrPath | None = None, **links: Any) -> Clients:
    """Return the home that ``lola split`` runs on without clients; `links` as of `load_clients`."""
    with resources.as_file(resources.files("lola.data")) as folder:
        return load_clients(folder / "home.csv", rates, **links)
