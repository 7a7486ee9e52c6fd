from lola.air.aircomp import AirReception as AirReception
from lola.air.aircomp import AirUplink as AirUplink
from lola.air.uplink import DigitalUplink as DigitalUplink
from lola.air.uplink import PerfectUplink as PerfectUplink
from lola.air.uplink import PlannedUplink as PlannedUplink
from lola.air.uplink import Reception as Reception
from lola.air.uplink import Uplink as Uplink
