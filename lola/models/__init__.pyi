from lola.models.blocks import find_blocks as find_blocks
from lola.models.depths import Depths as Depths
from lola.models.depths import attach_lora as attach_lora
from lola.models.errors import ModelError as ModelError
from lola.models.prompts import PromptedDepths as PromptedDepths
from lola.models.prompts import attach_prompts as attach_prompts
