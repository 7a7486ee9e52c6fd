from lola.deft.prompted import PromptedClassifier as PromptedClassifier
from lola.deft.prompted import draw_prompt as draw_prompt
from lola.deft.prompted import with_prompt as with_prompt
