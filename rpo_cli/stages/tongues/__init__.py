"""Words of the languages that critics speak: how each says that nothing is to change, or what is.

Data for `instructions.py`; patterns look at one clause in small letters, without quoted words, and go by
meaning (a negation and a word for changing, to keep, to match already), not by sentences that were seen.
To add a language: a file here with one `Tongue`, and its name in TONGUES.
"""

from rpo_cli.stages.tongues.chinese import CHINESE
from rpo_cli.stages.tongues.english import ENGLISH
from rpo_cli.stages.tongues.french import FRENCH
from rpo_cli.stages.tongues.german import GERMAN
from rpo_cli.stages.tongues.others import OTHERS
from rpo_cli.stages.tongues.spanish import SPANISH

TONGUES = (ENGLISH, GERMAN, FRENCH, SPANISH, CHINESE, OTHERS)
