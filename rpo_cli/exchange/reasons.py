"""Why a candidate is in the dataset or not, in the words of its card."""

from collections.abc import Sequence

REASONS = {
    "edit_won": "the edit beat its original",
    "reversed": "the original beat its edit",
    "counter_lost": "the original beat its edit by an instruction of another prompt",
    "counter_won": "an edit that was to be the loser scores better",
    "seed_won": "one seed beat another",
    "given_won": "the given winner, against a picture of the policy",
    "loser_won": "the picture made to lose scores at least as well",
    "unscored": "a reward is missing for a side",
    "unchanged": "the edit changed too little",
    "below_floor": "it changed no more than its editor does when asked for nothing",
    "too_different": "the two pictures differ too much",
    "near_duplicate": "their perceptual hashes are too close",
    "inside_band": "the margin is too small to call",
    "rewards_disagree": "the rewards disagree on the winner",
    "pareto_tie": "no reward prefers a side clearly while none disagrees",
    "duplicate": "the same two pictures stand in another pair",
    "prompt_full": "the prompt has enough pairs with wider margins",
    "corrupt_image": "a picture cannot be read",
    "label_kept": "the label that came with the pair",
    "label_confirmed": "the rewards agree with the label that came with the pair",
    "relabelled": "the rewards contradict the label that came with the pair, or it had none",
    "tie": "its judges prefer neither",
    "unlabelled": "it came without a label",
    "reviewed": "reviewers judged it",
    "people_disagree": "reviewers prefer the other side",
    "people_tie": "reviewers prefer neither",
    "people_reject": "reviewers find neither of use",
}


def floor_told(floors: Sequence[float]) -> list[str]:
    """What the editor changes by itself, at each of its guidances; nothing where that is not known."""
    told = ", ".join(f"{floor:.3g}" for floor in floors)
    text = (
        f"Asked for nothing, the editor changes a picture by {told} (mean difference of pixels, 0 to 1): "
        "an edit that changed no more is `below_floor`."
    )
    return [text] if floors else []
