from lola.tasks.glue import Examples as Examples
from lola.tasks.glue import glue_task as glue_task
from lola.tasks.glue import read_glue as read_glue
from lola.tasks.glue import score as score
from lola.tasks.texts import TextClassifier as TextClassifier
from lola.tasks.texts import load_classifier as load_classifier
