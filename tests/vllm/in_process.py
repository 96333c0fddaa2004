"""Asks the embedded critic by `LLM.chat` and prints what it says as JSON; run by vLLM's own Python."""

import json
import sys

from PIL import Image

from rpo_cli.backends.vllm_offline import VllmCritic
from rpo_cli.protocols import Message, Weights

# the free text, the single turn held to a schema, and the yes/no question of each picture
asked = json.load(open(sys.argv[1]))  # noqa: SIM115


def talks(name):
    return [(Message("user", one[name], Image.open(one["picture"])),) for one in asked["rows"]]


if __name__ == "__main__":
    critic = VllmCritic(Weights(asked["model"]))
    critic.setup()
    free = critic.reply(talks("free"), schema=None, seeds=None, max_tokens=80)
    held = critic.reply(talks("single"), schema=asked["schema"], seeds=None, max_tokens=400)
    sampled = critic.reply(talks("single"), schema=asked["schema"], seeds=[1, 2], max_tokens=400)
    said = {
        "free": [one.text for one in free],
        "held": [[one.text, one.finish] for one in (*held, *sampled)],
        "yes": critic.yes_probability(talks("yes")),
    }
    critic.close()
    sys.stdout.write(f"\n{json.dumps(said)}\n")
