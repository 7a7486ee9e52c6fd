from lola.air.latency import air_computation_s as air_computation_s
from lola.air.latency import centralised_s as centralised_s
from lola.air.latency import frequency_division_s as frequency_division_s
from lola.air.latency import one_device_s as one_device_s
from lola.air.latency import upload_s as upload_s
