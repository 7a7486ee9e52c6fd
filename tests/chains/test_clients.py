"""Clients: links from rates and from positions, files of both, and the formula of path loss."""

import math

import numpy as np
import pytest
from chain_problems import toy_clients

import lola
from lola.chains.clients import spread
from lola.chains.radio import Radio

CLIENTS = "name,speed,memory_bytes,rows,compute_power_w,transmit_power_w\nann,1,3e8,100,4,1\nbob,0.5,1e9,0,2,0.5\n"
RATES = "rate_bps,bob,ann\nann,4e7,\nbob,,2e7\n"
PLACED = "name,speed,memory_bytes,x_m,y_m\nann,1,3e8,0,0\nbob,0.5,1e9,30,40\n"


def test_path_loss_is_3gpps():
    """TR 38.901, table 7.4.1-1, by hand: InH-Office and UMi-Street-Canyon at 50 m and 5.2 GHz, no line of sight."""
    indoor = 17.3 + 38.3 * math.log10(50) + 24.9 * math.log10(5.2)
    outdoor = 22.4 + 35.3 * math.log10(50) + 21.3 * math.log10(5.2)
    assert float(Radio("indoor").path_loss_db(50.0)) == pytest.approx(indoor)
    assert float(Radio("outdoor").path_loss_db(50.0)) == pytest.approx(outdoor)
    assert Radio().path_loss_db([0.0, 0.5, 1.0]).tolist() == [32.4 + 20 * math.log10(5.2)] * 3  # the line of sight's
    rate = Radio().rate_bps([[0, 0], [30, 40]])
    noise_dbm = 10 * math.log10(1.380649e-23 * 290 * 20e6) + 30 + 9
    assert rate[0, 1] == pytest.approx(20e6 * math.log2(1 + 10 ** ((15 - indoor - noise_dbm) / 10)))
    assert rate.diagonal().tolist() == [0.0, 0.0]


def test_power_and_noise_make_links_asymmetric():
    rate = Radio("outdoor").rate_bps([[0, 0, 0], [0, 0, 90]], transmit_dbm=[20.0, 10.0])
    assert rate[0, 1] > rate[1, 0]
    rate = Radio("outdoor").rate_bps([[0, 0], [0, 90]], noise_figure_db=[12.0, 6.0])
    assert rate[0, 1] > rate[1, 0]
    farther = Radio("outdoor").rate_bps([[0, 0], [0, 180]])
    assert farther[0, 1] < Radio("outdoor").rate_bps([[0, 0], [0, 90]])[0, 1]


def test_clients_from_a_fleet():
    fleet = lola.Fleet(speed=[1, 0.5], memory_bytes=[2e9, 4e9], snr_db=[3, 4], name=["ann", "bob"], headroom=0.5)
    clients = lola.Clients.from_fleet(fleet, [[0, 0], [3, 4]], radio=Radio(bandwidth_hz=40e6), transmit_dbm=[20, 10])
    assert clients.memory_bytes.tolist() == [1e9, 2e9]
    assert (clients.name, clients.speed.tolist()) == (("ann", "bob"), [1.0, 0.5])
    assert clients.rate_bps[0, 1] == Radio(bandwidth_hz=40e6).rate_bps([[0, 0], [3, 4]], [20, 10])[0, 1]
    assert repr(clients) == "<2 clients, 2 of 2 links>"


def test_what_is_on_the_diagonal_does_not_matter():
    clients = toy_clients(rate_bps=[[np.inf, 1, 2], [3, np.nan, 0], [5, 6, -1]])
    assert clients.rate_bps.tolist() == [[0, 1, 2], [3, 0, 0], [5, 6, 0]]
    assert (clients.label(2), toy_clients(name=None).label(2)) == ("cid", "client 2")
    assert not clients.rate_bps.flags.writeable


def test_positions_are_drawn_alike_again():
    assert np.array_equal(spread(5, 30.0, 1), spread(5, 30.0, 1))
    drawn = spread(100, 30.0, 2)
    assert ((drawn >= 0) & (drawn <= 30)).all()


@pytest.fixture
def folder(tmp_path):
    for name, text in {"c.csv": CLIENTS, "r.csv": RATES, "p.csv": PLACED}.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_clients_and_rates_from_files(folder):
    clients = lola.load_clients(folder / "c.csv", folder / "r.csv")
    assert clients.rate_bps.tolist() == [[0.0, 4e7], [2e7, 0.0]]
    assert (clients.rows.tolist(), clients.transmit_power_w.tolist()) == ([100, 0], [1.0, 0.5])
    placed = lola.load_clients(folder / "p.csv", radio=Radio("outdoor"))
    assert placed.rate_bps[0, 1] == Radio("outdoor").rate_bps([[0, 0], [30, 40]])[0, 1]
    (folder / "z.csv").write_text(
        "name,speed,memory_bytes,x_m,y_m,z_m,transmit_dbm,noise_figure_db\na,1,1,0,0,0,20,9\nb,1,1,0,0,9,10,9\n"
    )
    high = lola.load_clients(folder / "z.csv")
    assert high.rate_bps[0, 1] == Radio().rate_bps([[0, 0], [9, 0]], [20, 10])[0, 1]
    drawn = lola.load_clients(folder / "c.csv", spread_m=30.0, seed=1)
    assert drawn.rate_bps[0, 1] == Radio().rate_bps(spread(2, 30.0, 1))[0, 1]


def test_twenty_phones_in_a_house(shared_data):
    clients = lola.load_clients(shared_data / "fleets" / "phones_20.csv", spread_m=30.0, seed=1)
    assert clients.n_clients == 20
    assert (clients.rate_bps + np.eye(20) > 0).all()
    assert 1e6 < clients.rate_bps[0, 1] < 1e9


# What each bad file or argument is told; the first name is the file that is bad.
BAD_FILES = [
    ("c.csv", "", "c.csv: the file is empty; the first line must be name,speed,memory_bytes"),
    ("c.csv", "name,speed\nann,1\n", "'memory_bytes' is missing"),
    ("c.csv", "name,speed,memory_bytes,color\n", "unknown key 'color'. Known are name, speed, memory_bytes, rows"),
    ("c.csv", "name;speed;memory_bytes\n", "columns separated by commas were wanted, got semicolons"),
    ("c.csv", CLIENTS.replace("bob", "ann"), "line 3: 'ann' is already in line 2; names must differ"),
    ("c.csv", CLIENTS.replace("bob", ""), "line 3: the name is empty"),
    (
        "c.csv",
        CLIENTS.replace("0.5,1e9", "0,1e9"),
        "line 3, speed: must be > 0, got 0.0; leave out a client that is off",
    ),
    ("c.csv", CLIENTS.replace("1e9", "-1"), "line 3, memory_bytes: must be >= 0, got -1.0"),
    ("c.csv", CLIENTS.replace("1e9", "1 GB"), "line 3, memory_bytes: a plain number was wanted .*, got '1 GB'"),
    ("c.csv", CLIENTS.replace("100", "1.5"), "line 2, rows: must be a whole number, got 1.5"),
    ("c.csv", CLIENTS.replace("0.5\n", "-1\n"), "line 3, transmit_power_w: must be >= 0, got -1.0"),
    ("c.csv", "name,speed,memory_bytes\n", "c.csv: no client after the header"),
    (
        "c.csv",
        PLACED,
        r"from a file of rates, from columns x_m and y_m, or from spread_m, one of them; got rates \(.*\) and",
    ),
    ("c.csv", "name,speed,memory_bytes,x_m\na,1,1,1\n", "x_m and y_m belong together, got one of them; add the other"),
    (
        "c.csv",
        "name,speed,memory_bytes,transmit_dbm\nann,1,1,1\nbob,1,1,1\n",
        "rates that are given need no radio, got tr",
    ),
    ("r.csv", "", "r.csv: the file is empty; the first line must be rate_bps,ann,bob"),
    (
        "r.csv",
        RATES.replace("rate_bps", "Mbit"),
        "line 1: must begin with rate_bps, got 'Mbit'; then the clients' names",
    ),
    (
        "r.csv",
        RATES.replace("bob,ann", "bob,eve"),
        "line 1: every client's name is needed once, and no other; 'ann' is m",
    ),
    (
        "r.csv",
        "rate_bps,bob,ann,ann\n",
        "line 1: every client's name is needed once, and no other; 'ann' is one too many",
    ),
    (
        "r.csv",
        RATES.replace("\nbob", "\neve"),
        "line 3: no client is named 'eve'; the names are those of the clients' fil",
    ),
    (
        "r.csv",
        "rate_bps,bob,ann\nann,4e7,\n",
        "r.csv: every client's name is needed once, and no other; 'bob' is missing",
    ),
    ("r.csv", RATES.replace("4e7", "-1"), "line 2, bob: must be >= 0, got -1.0; 0 is no link"),
    ("r.csv", RATES.replace("4e7", "fast"), "line 2, bob: a plain number was wanted .*, got 'fast'"),
    ("r.csv", RATES.replace("4e7", "4e7,1"), "line 2: 3 columns are needed, got 4"),
]


@pytest.mark.parametrize("name, content, said", BAD_FILES)
def test_a_bad_file_is_refused(name, content, said, folder):
    (folder / name).write_text(content)
    with pytest.raises(lola.FormatError, match=said):
        lola.load_clients(folder / "c.csv", folder / "r.csv")


def test_links_must_come_from_somewhere(folder):
    with pytest.raises(lola.FormatError, match="or from spread_m, one of them; got none"):
        lola.load_clients(folder / "c.csv")
    with pytest.raises(lola.FormatError, match="got x_m and y_m and spread_m"):
        lola.load_clients(folder / "p.csv", spread_m=3.0)
    with pytest.raises(lola.FormatError, match="spread_m must be finite and > 0, got -3"):
        lola.load_clients(folder / "c.csv", spread_m=-3.0)
    with pytest.raises(lola.FormatError, match="rates that are given need no radio, got one; leave one out"):
        lola.load_clients(folder / "c.csv", folder / "r.csv", radio=Radio())
    with pytest.raises(lola.FormatError, match="seed must be at least 0, got -1"):
        lola.load_clients(folder / "c.csv", spread_m=3.0, seed=-1)


BAD_CLIENTS = [
    ({"speed": [1, 0, 2]}, "speed must be finite and > 0, got 0.0 at index 1"),
    ({"memory_bytes": [1e9, 1e9]}, "memory_bytes must have 3 entries, as many as speed; got 2"),
    (
        {"rate_bps": np.ones((2, 3))},
        r"rate_bps must have a row and a column for each client, shape \(3, 3\); got \(2, 3\)",
    ),
    ({"rate_bps": -np.ones((3, 3))}, "rate_bps must be 0 .no link. or lie .*, got -1.0 from client 0 to client 1"),
    ({"rate_bps": 1.0}, "rate_bps must have 2 axis"),
    ({"name": ["ann", "bob", "ann"]}, "client names must differ, got 'ann' twice; rename one of them"),
    ({"name": ["ann", "bob"]}, "name must have 3 entries, got 2"),
    ({"rows": [1, 2.5, 0]}, r"rows must be whole numbers >= 0, got \[1.0, 2.5, 0.0\]; 0 is a client without data"),
    ({"compute_power_w": [1, -1, 0]}, "compute_power_w must be finite and >= 0, got -1.0 at index 1"),
]


@pytest.mark.parametrize("changes, said", BAD_CLIENTS)
def test_bad_clients_are_refused(changes, said):
    with pytest.raises(lola.LolaError, match=said):
        toy_clients(**changes)


BAD_PLACES = [
    ({"position_m": [[0.0], [1.0]]}, r"position_m must hold two or three finite coordinates .* got shape \(2, 1\)"),
    ({"position_m": [[0, 0], [0, np.nan]]}, "position_m must hold two or three finite coordinates"),
    ({"transmit_dbm": [1.0]}, "transmit_dbm must have 2 entries, as many as position_m; got 1"),
    ({"transmit_dbm": 1000.0}, "transmit_dbm must lie in -100 … 100 dB, got .* is it in watts?"),
    ({"noise_figure_db": -1.0}, "noise_figure_db must lie in 0 … 100 dB"),
    ({"radio": "wifi"}, "radio must be a lola.Radio, got str"),
]


@pytest.mark.parametrize("changes, said", BAD_PLACES)
def test_bad_places_are_refused(changes, said):
    place = {"position_m": [[0, 0], [3, 4]], "speed": [1, 1], "memory_bytes": [1, 1]}
    with pytest.raises(lola.LolaError, match=said):
        lola.Clients.from_positions(**(place | changes))


def test_bad_radios_are_refused():
    with pytest.raises(lola.LolaError, match="place must be one of indoor, outdoor; got 'moon'"):
        Radio("moon")
    with pytest.raises(lola.LolaError, match="bandwidth_hz must be finite and > 0, got 0"):
        Radio(bandwidth_hz=0)
    with pytest.raises(lola.LolaError, match="carrier_hz must be a number, got str: '5 GHz'"):
        Radio(carrier_hz="5 GHz")
    with pytest.raises(TypeError, match="fleet must be a lola.Fleet, got Clients"):
        lola.Clients.from_fleet(toy_clients(), [[0, 0]] * 3)
