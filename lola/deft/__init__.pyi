from lola.adapters.clusters import Answer as Answer
from lola.adapters.record import FederatedRecord as FederatedRecord
from lola.adapters.setting import FederatedSetting as FederatedSetting
from lola.deft.plain import PlainScheme as PlainScheme
from lola.deft.scheme import FederatedRound as FederatedRound
from lola.deft.scheme import Outcome as Outcome
from lola.deft.scheme import Scheme as Scheme
from lola.deft.session import FederatedSession as FederatedSession
